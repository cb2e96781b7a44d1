"""The kept listing: read once, true for unchanged files only, never trusted blindly."""

import errno
import json
import os
import shutil
import threading
import time

import numpy as np
import pytest

from tfkd.data import folder, listing, load


@pytest.fixture
def old_folder(flat_folder):
    """`flat_folder`, its files changed an hour ago: newer ones are read anew each time."""
    for path in flat_folder.rglob("*.png"):
        _age(path)
    return flat_folder


def _age(path, seconds=3600):
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def opened(monkeypatch):
    """The names of files whose header was read."""
    names, read_header = [], listing.read_header

    def counted(path):
        names.append(os.path.basename(os.fsdecode(path)))
        return read_header(path)

    monkeypatch.setattr(listing, "read_header", counted)
    return names


def kept_files(cache_home):
    return list((cache_home / "tfkd" / "listings").iterdir())


def test_the_second_load_opens_no_file(old_folder, opened, cache_home, monkeypatch):
    first = load(old_folder)
    assert len(opened) == 30
    opened.clear()
    monkeypatch.setattr(folder.Images, "unreadable", lambda *_: pytest.fail("read again"))
    second = load(old_folder)
    assert opened == []
    assert second.info == first.info
    for one, other in zip(first[:3], second[:3], strict=True):
        for (image, label), (same, same_label) in zip(one, other, strict=True):
            np.testing.assert_array_equal(image, same)
            assert label == same_label
    assert len(kept_files(cache_home)) == 1
    assert sorted(path.name for path in old_folder.iterdir()) == ["ant", "bee"]
    assert not [path for path in old_folder.rglob("*") if path.suffix not in (".png", "")]


def test_changed_added_removed_and_renamed_files_are_noticed(old_folder, opened, write_images):
    prints = {load(old_folder).info.fingerprint}
    opened.clear()

    write_images(old_folder / "spare", 1, first_value=77)
    spare = old_folder / "spare" / "000.png"
    size = (old_folder / "ant" / "003.png").stat().st_size
    assert spare.stat().st_size == size  # of the same size: the time tells
    spare.replace(old_folder / "ant" / "003.png")
    (old_folder / "spare").rmdir()
    _age(old_folder / "ant" / "003.png", 1800)
    changed = load(old_folder)
    assert opened == ["003.png"]
    assert 77 in {int(image[0, 0, 0]) for part in changed[:3] for image, _ in part}
    prints.add(changed.info.fingerprint)

    opened.clear()
    shutil.copy(old_folder / "bee" / "000.png", old_folder / "bee" / "new.png")
    _age(old_folder / "bee" / "new.png")
    prints.add(load(old_folder).info.fingerprint)
    assert opened == ["new.png"]

    opened.clear()
    (old_folder / "bee" / "new.png").rename(old_folder / "bee" / "newer.png")
    load(old_folder)
    assert opened == ["newer.png"]

    opened.clear()
    (old_folder / "ant" / "000.png").unlink()
    removed = load(old_folder)
    assert opened == [] and sum(removed.info.sizes.values()) == 30
    prints.add(removed.info.fingerprint)
    assert len(prints) == 4


def test_a_file_of_just_now_is_read_again(old_folder, opened):
    (old_folder / "ant" / "000.png").touch()
    load(old_folder)
    opened.clear()
    load(old_folder)
    assert opened == ["000.png"]


def _rewritten(path, **changes):
    with np.load(path) as kept:
        arrays = dict(kept)
    about = json.loads(arrays["about"].tobytes())
    about.update({key: value for key, value in changes.items() if key in about})
    arrays.update({key: value for key, value in changes.items() if key not in about})
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with open(path, "wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"junk"),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"004.png", b"004.pn_")),
        lambda path: _rewritten(path, version=0),
        lambda path: _rewritten(path, root=b"/elsewhere".hex()),
        lambda path: _rewritten(path, headers=np.full((30, 5), 9, np.int64)),
        lambda path: _rewritten(path, headers=np.zeros((30, 4), np.int64)),
        lambda path: _rewritten(path, fingerprints={"a": "sha256:0"}),
        lambda path: _rewritten(path, stats=np.array([None] * 60, object).reshape(30, 2)),
        lambda path: np.savez_compressed(open(path, "wb"), names=np.zeros(10**6, np.uint8)),
    ],
)
def test_a_damaged_or_foreign_listing_is_measured_anew(damage, old_folder, opened, cache_home):
    first = load(old_folder).info
    (path,) = kept_files(cache_home)
    good = path.read_bytes()
    damage(path)
    assert path.read_bytes() != good
    opened.clear()
    assert load(old_folder).info == first
    assert len(opened) == 30
    opened.clear()
    load(old_folder)
    assert opened == []  # and written well


def test_where_it_is_kept(old_folder, tmp_path, cache_home, monkeypatch, opened):
    load(old_folder, cache_dir=tmp_path / "run" / "data")
    assert len(list((tmp_path / "run" / "data").iterdir())) == 1 and not list(cache_home.iterdir())
    opened.clear()
    load(str(old_folder) + "/", cache_dir=str(tmp_path / "run" / "data"))
    assert opened == []
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert listing.cache_directory() == tmp_path / "home" / ".cache" / "tfkd"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert listing.cache_directory() == tmp_path / "home" / ".cache" / "tfkd"


@pytest.mark.parametrize("call", ["savez", "replace"])
def test_a_full_disk_costs_the_listing_and_leaves_nothing(
    call, old_folder, cache_home, monkeypatch
):
    def full(opened, *_, **__):
        if hasattr(opened, "write"):
            opened.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np if call == "savez" else listing.os, call, full)
    with pytest.warns(UserWarning, match="No space left on device.* Free some space"):
        assert load(old_folder).info.sizes["train"] == 22
    assert kept_files(cache_home) == []


def test_a_cache_directory_that_is_a_file(old_folder, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.warns(UserWarning, match="Could not keep the listing .* set XDG_CACHE_HOME"):
        load(old_folder, cache_dir=tmp_path / "taken")


def test_many_readers_and_writers_at_once_leave_a_sound_listing(old_folder, cache_home, opened):
    names = sorted(str(path.relative_to(old_folder)) for path in old_folder.rglob("*.png"))
    stats = np.array(
        [(s.st_size, s.st_mtime_ns) for s in map(os.stat, (old_folder / name for name in names))]
    )
    found, faults = [], []

    def work():
        try:
            for _ in range(10):
                one, _ = listing.measured(old_folder, names, stats)
                listing.keep(one)
                found.append(one.headers.tobytes())
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and len(found) == 40 and len(set(found)) == 1
    assert len(kept_files(cache_home)) == 1
    opened.clear()
    listing.measured(old_folder, names, stats)
    assert opened == []


def test_slow_disks_are_read_by_threads_with_the_same_result(old_folder, monkeypatch):
    one = load(old_folder).info
    monkeypatch.setattr(listing, "_QUICK_SECONDS", 0)
    monkeypatch.setattr(listing, "_TRIED", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(old_folder.parent / "other"))
    (old_folder / "ant" / "019.png").write_bytes(b"")
    with pytest.raises(ValueError, match="ant/019.png.: the file is empty"):
        load(old_folder)
    (old_folder / "ant" / "019.png").write_bytes((old_folder / "ant" / "018.png").read_bytes())
    assert load(old_folder).info.sizes == one.sizes


def test_names_that_are_no_text(old_folder):
    strange = os.fsencode(old_folder) + b"/ant/\xff\xfe.png"
    shutil.copy(old_folder / "ant" / "000.png", strange)
    _age(strange)
    for _ in range(2):
        assert sum(load(old_folder).info.sizes.values()) == 31


def test_what_was_decoded_once_is_not_decoded_to_know_again(old_folder, monkeypatch):
    path = old_folder / "ant" / "003.png"
    data = bytearray(path.read_bytes())
    start = data.index(b"IDAT") + 4
    data[start : start + 6] = b"\xff" * 6  # neither its header nor its end tells
    path.write_bytes(data)
    _age(path)
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 0)
    asked, unreadable = [], folder.Images.unreadable

    def counted(self, indices):
        asked.append(len(indices))
        return unreadable(self, indices)

    monkeypatch.setattr(folder.Images, "unreadable", counted)
    infos = []
    for _ in range(2):
        with pytest.warns(UserWarning, match=r'1 file that cannot be read is left out: "ant/003'):
            infos.append(load(old_folder, skip_damaged=True).info)
    assert asked == [30, 1]
    assert infos[0] == infos[1] and sum(infos[0].sizes.values()) == 29
    # Without the flag it is refused before anything is trained, and not when it is met.
    with pytest.raises(ValueError, match="ant/003.png.*--skip-damaged"):
        load(old_folder)
