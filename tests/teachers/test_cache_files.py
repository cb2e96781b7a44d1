"""A cache's directory that came from elsewhere, is of another version, damaged, or full."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
from small_cache import CROP_FLIP, dataset, distiller, files

from tfkd.losses import LogitsDistillation
from tfkd.teachers.cache import TeacherCache, disk, identity


@pytest.fixture(scope="module")
def made():
    return distiller(losses=[LogitsDistillation()])


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """A finished cache of three shards, which no test changes."""
    directory = tmp_path_factory.mktemp("whole") / "cache"
    TeacherCache.build(directory, made, dataset(), CROP_FLIP, 2, 16)
    return directory


@pytest.fixture
def cache(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "cache")


def build(directory, made):
    return TeacherCache.build(directory, made, dataset(), CROP_FLIP, 2, 16)


@pytest.fixture(scope="module")
def half(made, tmp_path_factory):
    """The same cache with two of three shards, which no test changes."""
    directory = tmp_path_factory.mktemp("half") / "cache"
    for share in ((0, 3), (1, 3)):
        data = dataset()
        assert (
            TeacherCache.build(directory, made, data, CROP_FLIP, 2, 16, share=share, verbose=0)
            is None
        )
    return directory


@pytest.fixture
def begun(half, tmp_path):
    return shutil.copytree(half, tmp_path / "begun")


def changed(directory, *path_and_value, name="manifest.json"):
    """Puts a value into a manifest; deletes the member where the value is `...`."""
    *path, last, value = path_and_value
    content = inner = json.loads((directory / name).read_text())
    for part in path:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    (directory / name).write_text(json.dumps(content))


# Manifests that are none.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("surprise", 1), "surprise: Extra inputs"),
        (("shards", 0, "surprise", 1), "shards/0/surprise: Extra"),
        (("views", ...), "views: Field required"),
        (("knowledge", "output", "head", ...), "knowledge/output/head: Field required"),
        (("views", "2"), "views: Input should be a valid integer"),
        (("views", True), "views: Input should be a valid integer"),
        (("views", 0), "views: .*greater than or equal to 1"),
        (("seed", 0.5), "seed: "),
        (("probe", 0, None), "probe/0: "),
        (("knowledge", {}), "knowledge: "),
        (("knowledge", "output", "dtype", "object"), "knowledge/output/dtype: "),
        (("knowledge", "output", "top_k", 4), "top_k of 'output' must be below"),
        (("knowledge", "output", "shape", [2**31, 2**31]), "does not fit"),
        (("knowledge", "output", "shape", [2**16, 2**16]), "must fit"),
        (("knowledge", "output", "shape", [-1]), "knowledge/output/shape/0: "),
        (("examples", 2**60), "examples: .*less than or equal"),
        (("examples", 2**45), "the shards of 35184372088832 examples must be"),
        (("examples", 39 - 16), "must be 2 files, shard-00000.npy to shard-00001.npy"),
        (("shards", []), "shards: "),
        (("shards", 0, "file", "../victim.npy"), "must be 3 files"),
        (("shards", 0, "file", "/etc/passwd"), "must be 3 files"),
        (("shards", 0, "file", "shard-00001.npy"), "must be 3 files"),
        (("shards", 0, "file", "sub/shard-00000.npy"), "must be 3 files"),
        (("shards", 0, "sha256", "abc"), "shards/0/sha256: "),
        (("shards", 0, "sha256", None), "a finished cache has the checksum"),
        (("data", ...), "a finished cache has the checksum"),
        (("temperature", 0), "temperature: "),
        (("answers", {}), "probe and answers"),
    ],
)
def test_what_a_manifest_does_not_hold(cache, made, change, message):
    """Named by the file and the place, for who opens and for who builds; nothing is touched."""
    changed(cache, *change)
    before = files(cache)
    for use in (lambda: TeacherCache(cache), lambda: build(cache, made)):
        with pytest.raises(ValueError, match=f"manifest.json.*{message}"):
            use()
    assert files(cache) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("shards", 2, "file", "../victim.npy"), "building.json.*must be 3 files"),
        (("examples", 2**60), "building.json.*examples"),
        (("teacher", 5), "building.json.*teacher"),
    ],
)
def test_what_a_begun_manifest_does_not_hold(begun, made, change, message):
    changed(begun, *change, name="building.json")
    for use in (lambda: TeacherCache(begun), lambda: build(begun, made)):
        with pytest.raises(ValueError, match=message):
            use()


@pytest.mark.parametrize(("number", "age"), [(1, "an older"), (3, "a newer"), (10**30, "a newer")])
def test_other_versions_are_named(cache, made, number, age):
    changed(cache, "format", number)
    changed(cache, "whatever", [])
    for use in (lambda: TeacherCache(cache), lambda: build(cache, made)):
        with pytest.raises(ValueError, match=f"manifest.json.* by {age} version .*{number}"):
            use()


@pytest.mark.parametrize("content", ["", '{"format": 2,', "\0" * 100, "[" * 10**5, b"\xff\xfe"])
@pytest.mark.parametrize("name", ["manifest.json", "building.json"])
def test_a_file_of_which_nothing_can_be_read_is_named_and_built_past(
    whole, cache, begun, made, name, content
):
    cache = begun if name == "building.json" else cache
    path = cache / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"{name}.* is damaged. Call TeacherCache.build again"):
        TeacherCache(cache)
    with pytest.warns(UserWarning, match=f"{name}.* is damaged"):
        build(cache, made)
    assert files(cache) == files(whole)


def test_a_manifest_of_many_bytes(cache, monkeypatch):
    with open(cache / "manifest.json", "a") as file:
        file.write(" " * 16_000_000)
    with pytest.raises(ValueError, match="manifest.json.* is damaged"):
        TeacherCache(cache)


def test_another_list_or_number_is_no_manifest(cache):
    for content in ("[]", "5", "null", '"text"', '{"format": true}'):
        (cache / "manifest.json").write_text(content)
        with pytest.raises(ValueError, match="manifest.json.* is no manifest"):
            TeacherCache(cache)


# Links.


@pytest.mark.parametrize("name", ["shard-00001.npy", "manifest.json", ".lock"])
def test_links_lead_nowhere(whole, cache, made, tmp_path, name):
    """A file that is a link is neither read nor written through."""
    victim = tmp_path / "victim"
    (cache / name).exists() and shutil.copy(cache / name, victim)
    victim.exists() or victim.write_text("precious")
    before = victim.read_bytes()
    (cache / name).unlink(missing_ok=True)
    (cache / name).symlink_to(victim)
    if name != ".lock":
        with pytest.raises(ValueError, match=name):
            TeacherCache(cache)
    if name == ".lock":
        (cache / "shard-00001.npy").unlink()
    if name == "shard-00001.npy":
        build(cache, made)
        assert files(cache) == files(whole) and not (cache / name).is_symlink()
    else:
        with pytest.raises((ValueError, OSError), match=name):
            build(cache, made)
    assert victim.read_bytes() == before


def test_what_builders_leave_beside_leads_nowhere_and_goes(whole, begun, made, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in (".partial-shard-00002.npy.killed", ".partial-building.json.killed"):
        (begun / name).symlink_to(victim)
    build(begun, made)
    assert victim.read_text() == "precious"
    assert files(begun) == files(whole)


def test_a_shard_that_is_no_file(cache):
    (cache / "shard-00001.npy").unlink()
    os.mkfifo(cache / "shard-00001.npy")  # opening it would wait for ever
    with pytest.raises(ValueError, match="shard-00001.npy .1 of 3"):
        TeacherCache(cache)


# Augmentations.


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("foreign:f", {}),
        ("os:system", {}),
        ("tfkd.data.augmentations:tf.io.write_file", {}),
        ("tfkd.data.digits:load", {}),
        ("tfkd.data.augmentations:crop_flip", {"border": "edge"}),
        ("tfkd.files:written", {}),
    ],
)
def test_nothing_is_imported_because_a_file_names_it(cache, tmp_path, monkeypatch, name, settings):
    (tmp_path / "foreign.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nf = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    changed(cache, "augmentation", {"name": name, "settings": settings})
    with pytest.raises(ValueError, match=f'"{name}" is none of tfkd.data.*augment='):
        TeacherCache(cache).dataset(dataset(), 16)
    assert not (tmp_path / "imported").exists()
    next(iter(TeacherCache(cache).dataset(dataset(), 16, augment=CROP_FLIP)))  # as the message says


def test_augmentations_of_tfkd_are_found():
    from tfkd import data

    for name in data.augmentation_names():
        augment = data.augmentation(name)
        assert identity.find_augmentation(identity.augmentation_identity(augment)) is augment


# A full disk.


def test_a_disk_that_is_full_at_any_write(whole, made, tmp_path, monkeypatch):
    """At the n-th file for every n: said plainly, nothing is left behind, and it goes on."""
    real, left = disk.os.fsync, {}

    def fsync(file):
        left["writes"] -= 1
        if left["writes"] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(disk.os, "fsync", fsync)
    for write in range(1, 10):
        directory, left["writes"] = tmp_path / f"full-{write}", write
        try:
            build(directory, made)
            break
        except OSError as error:
            message = str(error)
        assert "The disk is full" in message and "free" in message
        assert "call TeacherCache.build again with the same arguments" in message
        done = max(0, (write - 2) // 2)  # shard, building.json, shard, building.json, ...
        if write > 1 and done < 3:
            needed = disk.readable((40 - 16 * done) * 2 * 16)
            assert f"about {needed} more are needed" in message
        if done:
            assert f"{done} of 3 shards" in message
        if directory.exists():
            names = {path.name for path in directory.iterdir()}
            records = {f"shard-0000{n}.{suffix}" for n in range(done) for suffix in ("npy", "json")}
            assert names == {"building.json"} | records
        left["writes"] = 100
        build(directory, made)
        assert files(directory) == files(whole)
    assert (
        write == 9
    )  # building.json, three shards and a record of each, manifest.json: none is left


@pytest.mark.parametrize("step", ["mkdir", "open"])
def test_a_disk_that_holds_no_file_more(made, tmp_path, monkeypatch, step):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {"mkdir": "pathlib.Path.mkdir", "open": "filelock.FileLock.acquire"}[step]
    with monkeypatch.context() as patched:
        patched.setattr(target, full)
        with pytest.raises(OSError, match="The disk is full.*are free. Make room"):
            build(tmp_path / "cache", made)
    assert not (tmp_path / "cache").exists()
    build(tmp_path / "cache", made)


def test_records_that_are_not_where_they_should_be(cache):
    """A file with another header and the right checksum, as a foreign directory may hold."""
    path = cache / "shard-00000.npy"
    np.save(path, np.zeros(5))
    changed(cache, "shards", 0, "sha256", disk.checksum(open(path, "rb")))
    with pytest.raises(ValueError, match="shard-00000.npy .1 of 3.*size or checksum"):
        TeacherCache(cache)
