"""Settings as frozen dataclasses: checked when made, read from and written to TOML.

Each field says once what it is for and what it may be; the command line builds its flags from that.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from pathlib import Path

import tomli_w


class SettingsError(ValueError):
    """A setting that cannot be right, whatever the data: unknown, of another kind, out of range."""


def setting(default, help, *, above=None, minimum=None, maximum=None, flag=None):
    """A field of `Settings`.

    Args:
        default: its default; dicts are copied.
        help: one line on what it is for.
        above, minimum, maximum: bounds of a number (`above` itself is excluded).
        flag: name of the command-line flag where it is not the field's name with dashes.
    """
    metadata = {"help": help, "above": above, "minimum": minimum, "maximum": maximum, "flag": flag}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Settings:
    """Base of frozen dataclasses whose fields are flags and TOML keys.

    Raises:
        SettingsError: a value of another kind than the field's, or out of its bounds.
    """

    def __post_init__(self):
        kinds = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _of_kind(field, kinds[field.name], getattr(self, field.name))
            _check_bounds(field, value)
            object.__setattr__(self, field.name, value)
        self.check()

    def check(self):
        """Raises SettingsError where values do not fit together; for subclasses."""

    @classmethod
    def from_dict(cls, values, source="settings"):
        """Settings from a dict; what is missing has its default.

        Raises:
            SettingsError: a key that is no setting; near matches are named.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=2)
                hint = f"Did you mean {' or '.join(near)}? " if near else ""
                there_are = f"There are: {', '.join(known)}."
                raise SettingsError(f'No setting "{key}" ({source}). {hint}{there_are}')
        return cls(**values)

    @classmethod
    def from_toml(cls, path, **changes):
        """Settings from a TOML file; `changes` win over it, table by table key by key.

        Raises:
            SettingsError: not to be read as TOML, or an unknown key in it.
            FileNotFoundError: no such file.
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} is not valid TOML: {error}.") from error
        except FileNotFoundError:
            raise FileNotFoundError(f'No settings file "{path}".') from None
        for key, value in changes.items():
            both = isinstance(value, dict) and isinstance(values.get(key), dict)
            values[key] = {**values[key], **value} if both else value
        return cls.from_dict(values, str(path))

    def to_dict(self):
        """The settings as plain values, without those that are None (TOML knows no None)."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
        return {name: value for name, value in plain.items() if value is not None}

    def to_toml(self):
        """The settings as TOML text; `from_toml` gives the same settings back."""
        return tomli_w.dumps(self.to_dict())

    def differences(self, other):
        """What differs, one "name: own value, other's value" a line."""
        own, others = self.to_dict(), other.to_dict()
        names = [name for name in {**own, **others} if own.get(name) != others.get(name)]
        return [f"{name}: {own.get(name)!r}, not {others.get(name)!r}" for name in names]


def _of_kind(field, kind, value):
    """The value, whole numbers made floats and lists made tuples where the field wants those."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if tuple in kinds and isinstance(value, list):
        value = tuple(value)
    # True is an int to Python, but not to a person.
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(_KINDS[kind] for kind in kinds if kind is not types.NoneType)
        raise SettingsError(f"{field.name} is {value!r}; expected {expected}.")
    return value


_KINDS = {
    bool: "true or false",
    dict: "a table of names and values",
    float: "a number",
    int: "a whole number",
    str: "a text",
    tuple: "a list",
}


def _check_bounds(field, value):
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    above, minimum, maximum = (field.metadata[key] for key in ("above", "minimum", "maximum"))
    fits = value < float("inf")  # neither infinity nor NaN is a setting
    fits = fits and (above is None or value > above)
    fits = fits and (minimum is None or value >= minimum)
    fits = fits and (maximum is None or value <= maximum)
    if fits:
        return
    bounds = [f"above {above}"] if above is not None else []
    bounds += [f"of at least {minimum}"] if minimum is not None else []
    bounds += [f"of at most {maximum}"] if maximum is not None else []
    expected = f"a number {' and '.join(bounds)} (default: {field.default})"
    raise SettingsError(f"{field.name} is {value}; expected {expected}.")
