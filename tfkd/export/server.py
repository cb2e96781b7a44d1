"""The development server under the name that scripts know; it stands in `tfkd.serving.server`."""

from tfkd.serving.server import Server, serve

__all__ = ["Server", "serve"]
