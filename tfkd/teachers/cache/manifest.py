"""What a cache holds and what it belongs to, as `manifest.json` says it.

While a cache is built, `building.json` stands in its place, see `state`. Both hold no date and no
path: equal caches are equal bytes. A folder may come from elsewhere: what stands in the files is
checked before it is used.
"""

import json
from typing import Annotated, Any, Literal

import pydantic

from tfkd.teachers.cache import disk
from tfkd.teachers.cache.folders import MANIFEST, joined
from tfkd.teachers.cache.layout import Layout, header

FORMAT = 2

# Into how many shards a cache is divided unless told, at most: what is lost when a build is killed
# is one. All of them are open while a cache is read.
SHARDS, MOST_SHARDS = 64, 512

_LARGEST = 16_000_000  # bytes of a manifest

# What must be the same for stored knowledge to be right, and what a reader calls it.
_IDENTITY = {
    "teacher": "the teacher, its weights or its config",
    "knowledge": "the tensors that the losses read",
    "temperature": "the temperature of the top-k storage",
    "examples": "the number of examples",
    "inputs": "the inputs' shapes and dtypes",
    "views": "the number of views",
    "augmentation": "the augmentation",
    "seed": "the seed of the augmentation",
}
# And what must be the same for all builders of it, whose bytes depend on that.
_BUILDERS = {
    "batch_size": "batch_size",
    "shard_examples": "the number of shards",
    "versions": "the versions of the packages",
    "sample": "the data, by some of its examples",
}
IDENTITY, BUILDERS = tuple(_IDENTITY), tuple(_BUILDERS)

_Count = Annotated[int, pydantic.Field(ge=1, le=2**48)]
_Number = Annotated[float, pydantic.Field(allow_inf_nan=False)]
_Named = Annotated[str, pydantic.Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_Sha256 = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(pydantic.BaseModel, strict=True, extra="forbid"):
    pass


class _Spec(_Record):
    shape: list[Annotated[int, pydantic.Field(ge=0, le=2**31)]]
    dtype: str


class _Head(_Record):
    kind: Literal["logits", "probabilities", "numbers"] | None
    labels: Literal["one_of_many", "independent"] | None


class _Tensor(_Record):
    shape: list[Annotated[int, pydantic.Field(ge=1, le=2**31)]]
    dtype: Literal["float16", "float32"]
    top_k: _Count | None
    head: _Head


class _Shard(_Record):
    file: str
    sha256: _Sha256 | None


class _Augmentation(_Record):
    name: str | None
    settings: dict[str, Any]


class _Manifest(_Record):
    """What stands in `manifest.json`; in `building.json` there are versions and a sample of the
    data, but no checksums, nor that of all the data."""

    format: Literal[2]
    examples: _Count
    inputs: dict[str, _Spec]
    views: _Count
    seed: int
    probe: list[_Number]
    batch_size: _Count
    shard_examples: _Count
    shards: Annotated[list[_Shard], pydantic.Field(min_length=1, max_length=MOST_SHARDS)]
    teacher: str
    answers: dict[str, list[_Number]]
    knowledge: Annotated[dict[str, _Tensor], pydantic.Field(min_length=1)]
    temperature: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
    augmentation: _Augmentation
    versions: dict[str, str] | None = None
    sample: _Named | None = None
    data: _Named | None = None

    @pydantic.model_validator(mode="after")
    def _fits(self, info: pydantic.ValidationInfo):
        count = -(-self.examples // self.shard_examples)
        names = [shard.file for shard in self.shards]
        # As many as there are, before as many are made as a foreign file claims.
        if len(names) != count or names != [shard_name(n) for n in range(count)]:
            raise ValueError(
                f"the shards of {self.examples} examples must be {count} files, {shard_name(0)} to "
                f"{shard_name(count - 1)}"
            )
        unfinished = self.data is None or any(shard.sha256 is None for shard in self.shards)
        if info.context["finished"] and unfinished:
            raise ValueError("a finished cache has the checksum of each shard and of the data")
        probed = {len(self.probe), *map(len, self.answers.values())}
        if len(probed) > 1 or self.answers.keys() != self.knowledge.keys():
            raise ValueError("probe and answers must hold as many numbers for each tensor")
        for name, tensor in self.knowledge.items():
            if tensor.top_k and not (tensor.shape and tensor.top_k < tensor.shape[-1]):
                raise ValueError(f"top_k of {name!r} must be below the size of its last axis")
        Layout({name: tensor.model_dump() for name, tensor in self.knowledge.items()})
        return self


def shard_name(number):
    """The name of a shard's file."""
    return f"shard-{number:05d}.npy"


class DamagedError(ValueError):
    """A file that is no JSON: truncated, or emptied."""


def read(folder, name=MANIFEST):
    """The manifest of a folder as a dict, None if there is none.

    Raises:
        ValueError: it is of another version, or holds what a manifest does not; a `DamagedError`
            where nothing of it can be read.
    """
    path = joined(folder, name)
    try:
        with folder.open(name) as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise ValueError
        content = json.loads(text)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(
            f'Teacher cache: "{path}" cannot be read ({error.strerror or error}): it must be a '
            "plain file."
        ) from None
    except (ValueError, RecursionError):
        raise DamagedError(
            f'Teacher cache: "{path}" is damaged. Call TeacherCache.build again with the same '
            "arguments, which makes the cache anew."
        ) from None
    found = content.get("format") if isinstance(content, dict) else None
    if type(found) is int and found != FORMAT:
        age = "an older" if found < FORMAT else "a newer"
        raise ValueError(
            f'Teacher cache: "{path}" was written by {age} version of tfkd (format {found}, here '
            f"{FORMAT}). Use that version, or build another cache in another directory."
        )
    try:
        made = _Manifest.model_validate(content, context={"finished": name == MANIFEST})
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        said = ["/".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")]
        raise ValueError(
            f'Teacher cache: "{path}" is no manifest of a cache: '
            f"{': '.join(filter(None, said)).rstrip('.')}. Build another cache elsewhere."
        ) from None
    return made.model_dump(exclude_unset=True)


def encoded(content):
    """The bytes of a manifest's file."""
    ordered = {key: content[key] for key in _Manifest.model_fields if key in content}
    return json.dumps(ordered, indent=1).encode()


def differences(stored, wanted, keys=IDENTITY):
    """What differs between a stored manifest and what is asked for, in words, list of str."""
    names = _IDENTITY | _BUILDERS
    return [
        f"{names.get(key, key)} (built with {_short(stored.get(key))}, now {_short(wanted[key])})"
        for key in keys
        if stored.get(key) != wanted[key]
    ]


def check_same(folder, stored, wanted, keys=IDENTITY):
    """Raises ValueError that names what differs between a stored manifest and what is asked for."""
    different = differences(stored, wanted, keys)
    if different:
        raise ValueError(
            f'Teacher cache "{folder}" belongs to something else. What differs: '
            + "; ".join(different)
            + ". Go back to what it was built with, or build another cache in another directory."
        )


def shard_range(manifest, number):
    """(first example, the one after the last) of a shard."""
    start = number * manifest["shard_examples"]
    return start, min(start + manifest["shard_examples"], manifest["examples"])


def shard_header(manifest, number):
    """(the bytes before the records, how many bytes the records are) of a shard's file."""
    start, stop = shard_range(manifest, number)
    dtype, views = Layout(manifest["knowledge"]).dtype, manifest["views"]
    return header((stop - start, views), dtype), (stop - start) * views * dtype.itemsize


def shard_bytes(manifest, number):
    """Bytes of a shard's file."""
    first, records = shard_header(manifest, number)
    return len(first) + records


def sound_shards(folder, manifest, checksums=True):
    """For each shard whether its file is whole: there, and of the size and checksum that the
    manifest says.

    Args:
        folder: the cache's.
        manifest: dict with "shards", a list of {"file", "sha256"}.
        checksums: whether to read the files; else their sizes alone count.
    """
    sizes = folder.sizes()

    def sound(number):
        shard = manifest["shards"][number]
        if sizes.get(shard["file"]) != shard_bytes(manifest, number):
            return False
        if not checksums:
            return True
        try:
            with folder.open(shard["file"]) as file:
                return disk.checksum(file) == shard["sha256"]
        except OSError:
            return False

    return list(disk.in_threads(sound, range(len(manifest["shards"]))))


def _short(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:19] + "…" if text.startswith("sha256:") else text
