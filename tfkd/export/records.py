"""Files that travel with an export, read as what they are: somebody's data.

Each is checked against a schema; a message about one names the file.
"""

import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Annotated

import pydantic

from tfkd.export.errors import ExportCheckError

METADATA_FILE, LABELS_FILE = "tfkd.json", "labels.txt"
_LARGEST = 16_000_000  # bytes of a record; labels of a million classes fit


def _inside(name):
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name!r} does not lie inside the directory")
    return name


_Name = Annotated[str, pydantic.AfterValidator(_inside)]
_Checksum = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Manifest(pydantic.BaseModel, strict=True):
    """What a check needs of `assets.extra/manifest.json`.

    Attributes:
        files: {path relative to the version: SHA-256}.
    """

    files: dict[_Name, _Checksum]


class Input(pydantic.BaseModel, strict=True):
    """One input of a TFLite file: its dtype, shape (-1 is free), and what its values are."""

    dtype: str
    shape: list[int]
    values: str


class Metadata(pydantic.BaseModel, strict=True):
    """What travels in a TFLite file as `tfkd.json`.

    Attributes:
        name: of the student.
        labels: in the order of the outputs.
        head: name of its head, see `tfkd.heads.Head.get`.
        assumed: why the head was taken for that where the student does not tell, else "".
        parameters: how many.
        quantization: "float32", "float16", "dynamic" or "int8".
        inputs: {name: `Input`}.
        resize: the rule by which images of another size were resized in training; "stretch" where
            an earlier version of tfkd wrote the file.
    """

    name: str
    labels: list[str]
    head: str
    assumed: str
    parameters: int
    quantization: str
    inputs: dict[str, Input]
    resize: str = "stretch"


def manifest(path):
    """The `Manifest` of a version.

    Raises:
        ExportCheckError: there is none, or it is none.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST:,} bytes")
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ExportCheckError(f"{path} is no readable manifest: {_short(error)}.") from error


def metadata(path):
    """The `Metadata` of a TFLite file.

    Raises:
        ValueError: the file was not written by tfkd, or what it carries is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(METADATA_FILE).file_size > _LARGEST:
                raise ValueError(f"{METADATA_FILE} has more than {_LARGEST:,} bytes")
            return Metadata.model_validate_json(archive.read(METADATA_FILE))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} carries no {METADATA_FILE}; tfkd did not write it.") from error
    except (ValueError, RuntimeError, EOFError, zlib.error) as error:
        raise ValueError(
            f"What {path} carries as {METADATA_FILE} cannot be read: {_short(error)}."
        ) from error


def _short(error):
    if not isinstance(error, pydantic.ValidationError):
        return str(error)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
