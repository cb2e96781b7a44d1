"""Flags from settings: one for each field, with its type, bounds, help and default.

cyclopts reads the command line; the settings themselves check what it read, as they do with TOML.
"""

import functools
import operator
import types
import typing
from typing import Annotated, TypedDict

from cyclopts import Parameter

from tfkd.settings.base import parse_options

# What a user says of every run stands first in the help.
FIRST = ("data", "teacher", "teacher_options", "student", "student_options")


def flags_of(kind):
    """The type of a command's parameter that takes a flag for each field of a `Settings` class.

    What the command is given is a dict of the flags that were there, and no others.
    """
    names = sorted(kind.model_fields, key=lambda name: name not in FIRST)  # else as declared
    flags = {name: _flag(kind.model_fields[name]) for name in names}
    return Annotated[TypedDict("Given", flags, total=False) | None, Parameter(name="*")]


def given_of(flags, kind):
    """What `flags_of` gave, as the settings take it: NAME=VALUE texts are made tables."""
    values = dict(flags or {})
    for name in values:
        field = kind.model_fields[name]
        if _is_table(field):
            values[name] = parse_options(values[name], _name(field))
        elif _one_or_several(field.annotation) and len(values[name]) == 1:
            (values[name],) = values[name]
    return values


def _flag(field):
    own = [item for item in field.metadata if isinstance(item, Parameter)]
    help = " ".join(field.description.split())
    default = _shown(field.get_default(call_default_factory=True))
    help += f" [default: {default}]" if default else ""
    if _is_table(field):
        kind, extra = list[str], {"negative": ""}
    else:
        kind, extra = _one_or_several(field.annotation) or _plain(field.annotation), {}
        if bool not in (kind, *typing.get_args(kind)):
            extra = {"negative": ""}
    return Annotated[kind, *own, Parameter(help=help, **extra)]


def _is_table(field):
    return typing.get_origin(field.annotation) is dict


def _one_or_several(kind):
    """The type of several of what a field also takes one of, or None."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else ()
    return next((own for own in kinds if typing.get_origin(own) is tuple), None)


def _name(field):
    names = [item.name for item in field.metadata if isinstance(item, Parameter) and item.name]
    return names[0][0]


def _plain(kind):
    """A type without bounds (the settings check them) and without None (a flag is there or not)."""
    if typing.get_origin(kind) is Annotated:
        return _plain(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kinds = [_plain(own) for own in typing.get_args(kind) if own is not types.NoneType]
        return functools.reduce(operator.or_, kinds)
    return kind


def _shown(value):
    """A default as a user would write it; nothing for None, False and what is empty."""
    if isinstance(value, dict):
        return " ".join(f"{name}={own}" for name, own in value.items())
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None or value is False else str(value)
