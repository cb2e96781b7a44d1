"""Settings: one declaration gives flags, TOML, kinds, bounds and help.

A field of a `Settings` class is a type (with its bounds), a default, and below it the text that the
command line shows as its help. pydantic checks values, wherever they come from; `tfkd.cli` builds
the flags from the same fields.
"""

import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tomli_w
from cyclopts import Parameter
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)

from tfkd.models import HUB
from tfkd.near_names import meant

Above0 = Annotated[float, Field(gt=0)]
AtLeast0 = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


def _listed(value):
    return [value] if isinstance(value, str) else value


def _split(value):
    texts = _listed(value)
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        return texts
    return [name.strip() for text in texts for name in text.split(",")]


# A list of texts; one text is a list of one. `Names` also takes commas.
Texts = Annotated[tuple[str, ...], BeforeValidator(_listed), Strict(False), Parameter(negative="")]
Names = Annotated[tuple[str, ...], BeforeValidator(_split), Strict(False), Parameter(negative="")]
Numbers = Annotated[tuple[float, ...], Strict(False), Parameter(negative="")]


def options(flag, **default):
    """The type of a table of options, with its flag (repeatable, NAME=VALUE) and its default."""
    return Annotated[
        dict[str, Any], Field(default_factory=lambda: dict(default)), Parameter(name=flag)
    ]


# "package.module:function", unlike a path ("a/b.keras", "C:\\b.keras") or a name ("hub:resnet").
_REFERENCE = re.compile(rf"(?!{HUB})[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class SettingsError(ValueError):
    """A setting that cannot be right, whatever the data: unknown, of another kind, out of range."""


class Settings(BaseModel):
    """Base of all settings: frozen, checked when made, read from and written to TOML.

    Raises:
        SettingsError: an unknown name, or a value of another kind or out of its bounds.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )
    # Fields that hold paths, those that may name code to import, and those of which other values
    # continue the same run.
    paths: ClassVar[tuple[str, ...]] = ()
    code: ClassVar[tuple[str, ...]] = ()
    free: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **values):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(explain(error, type(self))) from None

    @model_validator(mode="after")
    def _checked(self):
        self.check()
        return self

    def check(self):
        """Raises SettingsError where values do not fit together; for subclasses."""

    @classmethod
    def from_toml(cls, path, trust=False, **changes):
        """Settings from a TOML file; `changes` win over it, table by table key by key.

        Paths in the file that are relative start at the file's folder.

        Args:
            path: of the file.
            trust: whether functions that the file names may be called; those in `changes` may.
            **changes: what the caller gives himself.

        Raises:
            SettingsError: not to be read as TOML, an unknown key in it, or code that it names.
            FileNotFoundError: no such file.
        """
        values = cls.made_absolute(read_toml(path), Path(path).expanduser().resolve().parent)
        named = [
            f"{name} = {text!r}"
            for name in cls.code
            if name not in changes
            for text in _texts(values.get(name))
            if isinstance(text, str) and is_reference(text.split(" ")[0])
        ]
        if named and not trust:
            raise SettingsError(
                f"{path} names code to run: {', '.join(named)}. Read it, and give these on the "
                "command line yourself, or --trust the file."
            )
        for key, value in changes.items():
            both = isinstance(value, dict) and isinstance(values.get(key), dict)
            values[key] = {**values[key], **value} if both else value
        try:
            return cls(**values)
        except SettingsError as error:
            raise SettingsError(f"{error} ({path})") from None

    def replace(self, **changes):
        """The same settings with some changed."""
        return type(self)(**{**dict(self), **changes})

    def to_dict(self):
        """The settings as plain values, without those that are None (TOML knows no None)."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_toml(self):
        """The settings as TOML text; `from_toml` gives the same settings back."""
        return tomli_w.dumps(self.to_dict())

    def given(self):
        """{name: value} of what differs from the defaults."""
        default = {
            name: field.get_default(call_default_factory=True)
            for name, field in type(self).model_fields.items()
        }
        return {name: value for name, value in self if value != default[name]}

    def differences(self, other):
        """What makes another run of them, one "name: own value, other's value" a line."""
        own, others = self.to_dict(), other.to_dict()
        names = [name for name in {**own, **others} if own.get(name) != others.get(name)]
        names = [name for name in names if name not in self.free]
        return [f"{name}: {own.get(name)!r}, not {others.get(name)!r}" for name in names]

    def resolved(self, folder="."):
        """The same settings with absolute paths, so that they mean the same in any folder."""
        values = {name: getattr(self, name) for name in self.paths}
        return self.replace(**self.made_absolute(values, folder))

    @classmethod
    def made_absolute(cls, values, folder):
        """A dict of settings, its paths absolute from a folder."""
        found = {}
        for name in cls.paths:
            text = values.get(name)
            if isinstance(text, str):
                found[name] = absolute(text, folder)
            elif isinstance(text, list | tuple):  # each with options behind it
                found[name] = [absolute_words(own, folder) for own in text]
        return {**values, **found}


def read_toml(path):
    """The content of a TOML file.

    Raises:
        SettingsError: not to be read as TOML. FileNotFoundError: no such file.
    """
    try:
        return tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from error
    except FileNotFoundError:
        raise FileNotFoundError(f'No settings file "{path}".') from None


def is_reference(text):
    """Whether a text names code, "package.module:function"."""
    return bool(_REFERENCE.fullmatch(text))


def is_path(text):
    """Whether a text is a path rather than a name: it starts as one, or is a `.keras` file."""
    return text.endswith(".keras") or text.startswith((".", "~")) or os.path.isabs(text)


def absolute(text, folder="."):
    """A path made absolute from a folder, also behind "hub:"; a name as it is."""
    if text.startswith(HUB):
        return HUB + absolute(text.removeprefix(HUB), folder)
    if not is_path(text):
        return text
    return os.path.abspath(os.path.join(folder, os.path.expanduser(text)))


def _texts(value):
    return value if isinstance(value, list | tuple) else [value] if value else []


def explain(error, kind):
    """A pydantic ValidationError in plain words, near matches named.

    Args:
        error: of pydantic.
        kind: the model class whose values were wrong.
    """
    return " ".join(_explained(item, kind) for item in error.errors()[:3])


def _explained(item, kind):
    name, given = ".".join(map(str, item["loc"])), item["input"]
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if item["type"] == "extra_forbidden":
        return f'No setting "{name}". {near(name, kind.model_fields)}'
    if item["type"] == "missing":
        return f"{name} is missing."
    if item["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        return f"{name} is {given!r}. {near(given, known)}"
    if not item["msg"].startswith("Input should be "):
        return f"{name} is {given!r}: {item['msg']}."
    should = item["msg"].removeprefix("Input should be ")
    default = getattr(kind.model_fields.get(name), "default", None)
    hint = f" (default: {default})" if isinstance(default, int | float | str) else ""
    return f"{name} is {given!r}; it should be {should}{hint}."


def near(name, known):
    """Sentences on what was perhaps meant and what there is."""
    known = list(known)
    return f"{meant(name, known)}There are: {', '.join(known)}."


def parse_options(texts, flag):
    """A dict from texts NAME=VALUE; numbers, true, false and lists are read as TOML reads them.

    Raises:
        SettingsError: a text without a name or a value.
    """
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise SettingsError(f'{flag} expects NAME=VALUE, such as width=0.25; got "{text}".')
        options[name] = parsed(value)
    return options


def words(role, text):
    """(name, options) of a text "NAME OPTION=VALUE ...".

    Raises:
        SettingsError: no name, or words that are no options.
    """
    try:
        name, *options = shlex.split(text)
    except ValueError:
        raise SettingsError(
            f'{role} is "{text}"; expected a name and NAME=VALUE options.'
        ) from None
    return name, parse_options(options, f'{role} "{text}"')


def absolute_words(text, folder="."):
    """A text of `words` whose name, where it is a path, is absolute from a folder."""
    first, *rest = shlex.split(text) or [""]
    return shlex.join([absolute(first, folder), *rest])


def parsed(text):
    """A value as TOML reads it; a text that is none is a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
