"""A cache by several builders, on a disk, in an object store and in parts: one builder's bytes."""

import functools
import hashlib
import json
import shutil
import threading
import time

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from small_cache import CROP_FLIP, dataset, distiller, files, foreign

from tfkd.losses import LogitsDistillation
from tfkd.teachers.cache import TeacherCache
from tfkd.teachers.cache.disk import LocalFolder
from tfkd.teachers.cache.folders import folder_of, stores_in
from tfkd.teachers.cache.state import State

SHARDS = 5


@pytest.fixture(scope="module")
def build():
    """Builds the same cache of five shards wherever it is told to."""
    made = distiller(losses=[LogitsDistillation()])

    def build(directory, data=dataset, **options):
        options = {"augment": CROP_FLIP, "views": 2, "batch_size": 8, "verbose": 0} | options
        return TeacherCache.build(directory, made, data(), **options)

    return build


@pytest.fixture(scope="module")
def whole(build, tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "cache"
    build(directory)
    return directory


@pytest.fixture(scope="module")
def shares(build, tmp_path_factory):
    """The two shares of two builders without a common disk: shards 0, 1 and 2, 3, 4."""
    directories = [tmp_path_factory.mktemp("shares") / name for name in ("a", "b")]
    for index, directory in enumerate(directories):
        assert build(directory, share=(index, 2)) is None
    return directories


@pytest.fixture
def parts(shares, tmp_path):
    return [shutil.copytree(own, tmp_path / own.name) for own in shares]


def flipped(path, place=-3):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def remote_files(url):
    return {n: folder_of(url).open(n).read() for n in folder_of(url).sizes()}


def rewritten(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Shares.


def test_shares_in_one_directory(build, whole, shares, tmp_path):
    """What each leaves, what is said of it meanwhile, and data that is read in order."""
    assert {path.name for path in shares[0].iterdir()} == {
        *("building.json", "shard-00000.npy", "shard-00000.json"),
        *("shard-00001.npy", "shard-00001.json"),
    }
    with pytest.raises(ValueError, match="not finished: 2 of 5 shards"):
        TeacherCache(shares[0])
    found = TeacherCache.info(shares[0])
    assert (found["complete"], found["shards"], found["missing"]) == (False, 5, [2, 3, 4])
    assert found["bytes"] == sum(path.stat().st_size for path in shares[0].glob("*.npy"))
    directory = shutil.copytree(shares[1], tmp_path / "cache")
    cache = build(directory, data=foreign, share=(0, 2))
    assert files(directory) == files(whole)
    assert cache.manifest == json.loads((whole / "manifest.json").read_text())
    found = TeacherCache.info(directory)
    assert found["complete"] and found["missing"] == []
    assert found["knowledge"]["output"]["shape"] == [4] and found["examples"] == 40


@pytest.mark.parametrize(
    "change", [{"share": (2, 2)}, {"share": (-1, 2)}, {"share": 1}, {"share": (0.5, 2)}]
)
def test_unfit_shares(build, tmp_path, change):
    with pytest.raises(ValueError, match="share must be .i, n."):
        build(tmp_path / "cache", **change)
    with pytest.raises(ValueError, match="shards must be at most 512"):
        build(tmp_path / "cache", shards=513)
    assert not (tmp_path / "cache").exists()


def test_another_builder_s_data_and_versions_are_refused(build, parts):
    with pytest.raises(ValueError, match="the data, by some of its examples"):
        build(parts[0], data=functools.partial(dataset, seed=1))
    state = json.loads((parts[0] / "building.json").read_text())
    versions = state["versions"] | {"tensorflow": "2.0"}
    rewritten(parts[0] / "building.json", versions=versions)
    for path in parts[0].glob("shard-*.json"):
        rewritten(path, building=State(LocalFolder(parts[0]))._belongs)
    with pytest.raises(ValueError, match='versions of the packages .*"tensorflow": "2.0"'):
        build(parts[0])


# Claims.


def test_a_held_shard_is_left_to_its_builder_and_taken_over_when_that_ends(build, whole, tmp_path):
    """A lock of the system ends with its process; here it is let go instead."""
    directory = tmp_path / "cache"
    directory.mkdir()
    others = [directory / f"shard-0000{n}.json" for n in (0, 1, 3, 4)]
    with LocalFolder(directory).claim("shard-00002.npy") as held:
        assert held
        with LocalFolder(directory).claim("shard-00002.npy") as twice:
            assert not twice
        builder = threading.Thread(target=build, args=[directory])
        builder.start()
        until = time.monotonic() + 60
        while not all(path.exists() for path in others) and time.monotonic() < until:
            time.sleep(0.02)
        assert all(path.exists() for path in others)
        assert not (directory / "shard-00002.npy").exists()
        with pytest.raises(ValueError, match="not finished: 4 of 5 shards"):
            TeacherCache(directory)
    builder.join(60)
    assert files(directory) == files(whole)


def test_a_builder_of_something_else_does_not_take_the_directory(build, parts):
    """Nothing is finished, but somebody builds; and should the directory be taken, who built there
    notices, and its shards do not count."""
    for path in parts[0].glob("shard-*"):
        path.unlink()
    with LocalFolder(parts[0]).claim("shard-00000.npy"):
        with pytest.raises(RuntimeError, match=r"with something else.*views \(built with 2, now 3"):
            build(parts[0], views=3)
    state = State(LocalFolder(parts[1]))
    assert sorted(state.finished()) == [2, 3, 4]
    rewritten(parts[1] / "building.json", seed=1)
    assert State(LocalFolder(parts[1])).finished() == {}
    with pytest.raises(RuntimeError, match="begun anew by another builder"):
        state.has(0)


def test_a_shard_that_is_damaged_before_the_end_is_made_anew(build, whole, parts):
    flipped(parts[1] / "shard-00003.npy")
    (parts[1] / "shard-00004.json").write_text("[]")
    build(parts[1])
    assert files(parts[1]) == files(whole)


def test_files_that_another_builder_removes_meanwhile_hide_no_others(shares, monkeypatch):
    there = LocalFolder(shares[0]).sizes()
    names = ["gone.json", *there, ".partial-gone"]
    monkeypatch.setattr("os.listdir", lambda path: names)
    assert LocalFolder(shares[0]).sizes() == there


# Parts.


def test_parts_become_one(whole, shares, tmp_path):
    """On a disk, in an object store and from it, into one of the parts; again, nothing is done."""
    merged = TeacherCache.merge(tmp_path / "merged", shares, verbose=0)
    assert files(tmp_path / "merged") == files(whole)
    assert merged.manifest["examples"] == 40
    TeacherCache.merge("memory://merged", [*shares, whole], verbose=0)
    assert remote_files("memory://merged") == files(whole)
    TeacherCache.merge(tmp_path / "back", ["memory://merged"], verbose=0)
    assert files(tmp_path / "back") == files(whole)
    into = shutil.copytree(shares[1], tmp_path / "into")
    for _ in range(2):
        TeacherCache.merge(into, [shares[0], into], verbose=0)
        assert files(into) == files(whole)


def test_parts_that_do_not_make_one(whole, parts, tmp_path):
    """Each is named, and nothing is left of an attempt."""

    def merge(*given):
        return TeacherCache.merge(tmp_path / "merged", given, verbose=0)

    a, b = parts
    with pytest.raises(ValueError, match=r"3 of 5 shards \(2, 3, 4\) are in none of .*/a"):
        merge(a)
    with pytest.raises(ValueError, match="no teacher cache in .*nowhere"):
        merge(a, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no parts"):
        merge()
    shutil.copy(whole / "shard-00001.npy", b)
    shutil.copy(a / "shard-00001.json", b)
    rewritten(b / "shard-00001.json", building=State(LocalFolder(b))._belongs, sha256="0" * 64)
    with pytest.raises(ValueError, match="shard-00001.npy is in .*/a.* and in .*/b.*overlap"):
        merge(a, b)
    (b / "shard-00001.json").unlink()
    rewritten(b / "building.json", teacher=f"sha256:{'0' * 64}")
    with pytest.raises(
        ValueError, match=r"no parts of one teacher cache.*the teacher, its weights"
    ):
        merge(a, b)
    assert not (tmp_path / "merged").exists()


def test_a_part_that_was_damaged_on_its_way(whole, parts, tmp_path):
    flipped(parts[1] / "shard-00004.npy")
    with pytest.raises(ValueError, match="shard-00004.npy of .*/b.* is damaged"):
        TeacherCache.merge(tmp_path / "merged", parts, verbose=0)
    flipped(parts[1] / "shard-00004.npy")
    TeacherCache.merge(tmp_path / "merged", parts, verbose=0)
    assert files(tmp_path / "merged") == files(whole)


# An object store.


def test_in_an_object_store(build, whole):
    """By shares, with a shard that arrived in part; what is read is what a disk gives."""
    url = "memory://store/cache"
    assert build(url, share=(0, 2)) is None
    store, path = fsspec.filesystem("memory"), "/store/cache/shard-00001.npy"
    store.pipe_file(path, store.cat_file(path)[:-7])
    assert TeacherCache.info(url)["missing"] == [1, 2, 3, 4]
    assert build(url, share=(1, 2)) is None
    cache = build(url, share=(0, 2))
    assert remote_files(url) == files(whole)
    assert stores_in("memory://store") == ["cache"]
    assert (cache.directory, TeacherCache.verify(url, dataset(), verbose=0)) == (url, [])
    epochs = [own.dataset(dataset(), 16) for own in (cache, TeacherCache(whole))]
    for (x, *_, remote), (images, *_, local) in zip(*epochs, strict=True):
        np.testing.assert_array_equal(x, images)
        np.testing.assert_array_equal(remote["output"], local["output"])
    store.pipe_file(path, store.cat_file(path)[:-7])
    with pytest.raises(ValueError, match="shard-00001.npy .1 of 5.*build again"):
        TeacherCache(url)
    build(url)
    assert remote_files(url) == files(whole)


class Slow(MemoryFileSystem):
    """Records come once so many of them are asked for at the same time."""

    protocol, store, pseudo_dirs = "slow", {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("slow://"))

    def cat_file(self, path, start=None, end=None, **options):
        if path.endswith(".npy"):
            self.waiting.wait()
        return super().cat_file(path, start, end, **options)


def test_an_object_store_is_read_ahead(whole):
    """Batches of four, of which ten records, those of three batches, are on their way together."""
    fsspec.register_implementation("slow", Slow, clobber=True)
    for name, content in files(whole).items():
        Slow().pipe_file(f"/cache/{name}", content)
    Slow.waiting = threading.Barrier(1)  # while some examples are compared beforehand
    batches = TeacherCache("slow://cache").dataset(dataset(), 4)
    Slow.waiting = threading.Barrier(10, timeout=60)
    expected = TeacherCache(whole).dataset(dataset(), 4)
    for (*_, one), (*_, other) in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(one["output"], other["output"])


def test_urls_that_nothing_reads():
    for url in ("nonsense://bucket/cache", "s3://bucket/cache"):
        with pytest.raises(ValueError, match=f'"{url}" cannot be reached: '):
            TeacherCache(url)


# Looking at every record.


def test_verify_names_what_is_wrong(whole, shares, tmp_path):
    verify = functools.partial(TeacherCache.verify, verbose=0)
    assert verify(whole) == verify(whole, dataset()) == verify(whole, foreign()) == []
    assert verify(shares[0]) == [
        f"shard-0000{n}.npy is missing, or not of its size." for n in (2, 3, 4)
    ]
    other = dataset(40, seed=1)
    assert verify(whole, other)[4] == (
        "shard-00004.npy: 8 of its examples are not those of the data, the first is example 32."
    )
    with pytest.raises(ValueError, match="number of examples"):
        verify(whole, dataset(41))
    cache = shutil.copytree(whole, tmp_path / "cache")
    flipped(cache / "shard-00001.npy")
    (wrong,) = verify(cache)
    assert wrong == "shard-00001.npy: its checksum is not the one that was written down."


def test_verify_looks_into_files_whose_checksum_is_right(whole, tmp_path):
    """As a foreign directory may hold them."""
    cache = shutil.copytree(whole, tmp_path / "cache")
    content = json.loads((cache / "manifest.json").read_text())
    for number in (0, 1, 2):
        path = cache / f"shard-0000{number}.npy"
        records = np.load(path)
        if number == 0:
            records[3, 1]["example fingerprint"] ^= 1
        elif number == 1:
            records[2, 0]["output"][1] = np.inf
        else:
            records = records[::-1].copy()
        with open(path, "wb") as file:
            np.lib.format.write_array(file, records, version=(2, 0))
        content["shards"][number]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (cache / "manifest.json").write_text(json.dumps(content))
    said = TeacherCache.verify(cache, verbose=0)
    assert "shard-00000.npy: the record of example 3, view 1, belongs to another" in said[0]
    assert 'shard-00001.npy: "output" of example 10, view 0, is not finite.' == said[1]
    assert len(said) == 2  # the order of examples shows by the data, or by the manifest's sum
    assert "8 of its examples" in TeacherCache.verify(cache, dataset(), verbose=0)[2]
