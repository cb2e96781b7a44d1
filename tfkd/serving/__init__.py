"""Serving: the files that TensorFlow Serving needs, and a server for development that answers as it
does.

`tfkd.export.serve` and `tfkd.export.write_serving_files` are the public names."""
