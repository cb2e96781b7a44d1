"""The teacher is asked once: who shares its stored answers, how many views fit, what is said."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_runs import exact

from tfkd import fused
from tfkd.runs import (
    build_cache,
    cache_info,
    distill,
    knowledge,
    merge_caches,
    verify_cache,
)
from tfkd.runs.record import Knowledge
from tfkd.settings import CacheSettings, DataSettings

OUTPUT = {"output": [10]}
HINTS = {"output": [10], "stage1_out": [4, 4, 8]}
OTHER = {"stage2_out": [2, 2, 8]}
EXAMPLES = 100


def lesson(needs, epochs=6, augment="shift", key=0, views=None, sources=None, cache_gb=None):
    return SimpleNamespace(
        key=key,
        wanted_views=1 if augment == "none" else views or epochs,
        needs=dict(enumerate(needs)),
        sources=sources or {},
        settings=SimpleNamespace(epochs=epochs, augment=augment, cache_gb=cache_gb),
        info=SimpleNamespace(image_shape=(8, 8, 3)),
        augmented=augment != "none",
        task=SimpleNamespace(things="images"),
        sizes={"train": EXAMPLES},
    )


def bytes_of(tensors, width):
    return EXAMPLES * (width * sum(np.prod(shape) for shape in tensors.values()) + 8)


ROOM = (1e12, "1 TB")


def test_rows_share_the_smallest_number_of_stores():
    plans = knowledge.plan(lesson([OUTPUT, HINTS, OUTPUT, HINTS]), ROOM)
    assert [own.tensors for own in plans] == [HINTS]
    plans = knowledge.plan(lesson([OUTPUT, OTHER, HINTS]), ROOM)
    assert [own.tensors for own in plans] == [HINTS, OTHER]
    assert [knowledge.store_for(own, plans) for own in (OUTPUT, HINTS, OTHER)] == [0, 0, 1]
    assert knowledge.plan(lesson([]), ROOM) == []
    # What one source says is no store of another's.
    plans = knowledge.plan(lesson([OUTPUT, HINTS, OUTPUT], sources={2: "all views"}), ROOM)
    assert [(own.source, own.tensors) for own in plans] == [("", HINTS), ("all views", OUTPUT)]
    assert knowledge.store_for(OUTPUT, plans, "all views") == 1


def test_beside_a_gpu_answers_larger_than_the_image_are_not_stored(monkeypatch):
    monkeypatch.setattr(fused, "on_cpu", lambda: False)
    for needs, cache_gb, stored in (
        ([OUTPUT], None, True),  # 28 bytes beside the 192 of an image
        ([{"output": [92]}], None, True),
        ([{"output": [93]}], None, False),
        ([HINTS], None, False),
        ([HINTS], 1.0, True),
    ):
        (own,) = knowledge.plan(lesson(needs, cache_gb=cache_gb), ROOM)
        assert (own.stored, own.views, own.why.startswith("a GPU")) == (stored, 6, not stored)


def test_as_many_views_as_fit_in_full_precision_where_all_do():
    full, half = bytes_of(HINTS, 4), bytes_of(HINTS, 2)
    for room, views, dtype in (
        (6 * full, 6, "float32"),
        (6 * full - 1, 6, "float16"),
        (6 * half, 6, "float16"),
        (6 * half - 1, 5, "float16"),
        (half, 1, "float16"),
    ):
        (own,) = knowledge.plan(lesson([HINTS]), (room, "the room"))
        assert (own.stored, own.views, own.dtype) == (True, views, dtype)
        assert own.bytes == views * (full if dtype == "float32" else half) <= room
    assert own.why == "1 of 6 views fit the room"
    (own,) = knowledge.plan(lesson([HINTS]), (half - 1, "the room"))
    assert (own.stored, own.views, own.bytes) == (False, 6, 0)
    assert own.why.startswith("one view needs ")
    assert own.why.endswith(f"but there is the room, enough for {EXAMPLES - 1:,}")
    (own,) = knowledge.plan(lesson([HINTS], views=2), ROOM)
    assert (own.views, own.why) == (2, "--views 2")
    (own,) = knowledge.plan(lesson([{"stage1_out": [1000, 1000]}]), ROOM)  # 400 MB a view
    assert (own.views, own.dtype) == (6, "float16")
    (own,) = knowledge.plan(lesson([HINTS], augment="none"), (full, "the room"))
    assert (own.views, own.dtype, own.why) == (1, "float32", "images are not augmented")


def test_a_store_that_is_there_takes_no_room():
    """Of several the one in full precision; where one is missing, all are planned anew."""
    there = {"a-1": "float32", "a-2": "float16"}
    plans = knowledge.plan(
        lesson([OUTPUT, OTHER]), (0, "nothing"), kept=lambda tensors, source: there
    )
    assert [(own.store, own.dtype, own.views) for own in plans] == [("a-1", "float32", 6)] * 2
    assert knowledge.plan(lesson([OUTPUT, OTHER]), ROOM, before=plans) == plans
    some = knowledge.plan(
        lesson([OUTPUT, OTHER]),
        ROOM,
        kept=lambda tensors, source: there if "output" in tensors else {},
    )
    assert [own.store for own in some] == ["", ""]


@pytest.mark.parametrize("views", [2, 0])
def test_what_was_decided_when_the_run_began_stays(views):
    """However much room there is when it goes on."""
    room = (views * bytes_of(HINTS, 2), "little")
    before = knowledge.plan(lesson([HINTS]), room)
    assert knowledge.plan(lesson([HINTS]), ROOM, before) == before
    (own,) = knowledge.plan(lesson([OUTPUT, HINTS], key=1), ROOM, before)  # another lesson
    assert own.views == 6


def test_the_budget_is_the_user_s_or_a_quarter_of_the_free_disk(tmp_path, monkeypatch):
    assert knowledge.budget(SimpleNamespace(cache_gb=1.5), tmp_path) == (1.5e9, "--cache-gb 1.5")
    usage = SimpleNamespace(free=8_000_000_000)
    monkeypatch.setattr(knowledge.shutil, "disk_usage", lambda path: usage)
    room, words = knowledge.budget(SimpleNamespace(cache_gb=None), tmp_path / "not/there/yet")
    assert room == 2_000_000_000 and words == "2 GB, a quarter of the free disk"


@pytest.fixture
def kept(finished, tmp_path, capsys):
    """A store of one of its layers, too, which two builders made without a common disk."""
    given = {"teacher": str(finished[0] / "teacher.keras"), "any_teacher": True}
    settings = CacheSettings(**given, limit=200, views=2, seed=3, layer="stage1_out")
    parts = [str(tmp_path / name) for name in ("a", "b")]
    for index, part in enumerate(parts):
        path = build_cache(settings.replace(share=f"{index}/2"), part)
    assert "Share 1/2 is done: 1 of 2 files are there" in capsys.readouterr().out
    with pytest.raises(ValueError, match="1 of 2 shards .0. are in none of"):
        merge_caches(str(tmp_path / "kept"), parts[1:])
    (store,) = merge_caches(str(tmp_path / "kept"), parts)
    assert Path(store).name == Path(path).name
    (found,) = cache_info(str(tmp_path / "kept")).values()
    assert found["complete"] and list(found["knowledge"]) == ["output", "stage1_out"]
    said = capsys.readouterr().out
    assert "State: complete" in said and "200, 2 views of each" in said
    assert verify_cache(store, "digits", DataSettings(limit=200)) == {store: []}
    return Path(store)


def test_stored_and_live_teachers_teach_the_same(finished, small, kept, tmp_path, capsys):
    """Seeds share one store, which was there before. Without room the teacher answers live, and the
    run says so."""
    given = {"teacher": str(finished[0] / "teacher.keras"), "teacher_options": {}}
    given |= {"train_teacher": False, "any_teacher": True}
    settings = small.replace(**given, cache=str(tmp_path / "kept"), seeds=2, epochs=2)
    stored = distill(settings, tmp_path / "stored")
    (own,) = stored["knowledge"]
    assert (own["stored"], own["views"], own["dtype"]) == (True, 2, "float32")
    assert own["why"] == f"found in --cache: {kept.name}" and own["tensors"] == {"output": [10]}
    assert [row["knowledge"] for row in stored["rows"]] == ["labels", "stored"]
    assert list((tmp_path / "kept").iterdir()) == [kept]
    manifest = json.loads((kept / "manifest.json").read_text())
    assert (manifest["examples"], manifest["views"]) == (200, 2)
    files = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    live = distill(settings.replace(cache_gb=0.0, seeds=1), tmp_path / "live")
    assert {path: path.stat().st_mtime_ns for path in kept.iterdir()} == files
    assert [row["knowledge"] for row in live["rows"]] == ["labels", "live"]
    said = capsys.readouterr().out
    assert "stored, 2 views" in said and "live, in every epoch (one view needs" in said
    assert exact(live)[0]["alone"] == exact(stored)[0]["alone"][:1]
    a, b = (
        json.loads((tmp_path / n / "seeds/3/distilled.json").read_text())
        for n in ("stored", "live")
    )
    np.testing.assert_allclose(a["history"]["loss"], b["history"]["loss"], rtol=1e-3)
    starts = [own["trainings"]["3/distilled"]["start"] for own in (stored, live)]
    assert starts[0] == starts[1]


def test_plans_are_checked_when_they_are_read():
    with pytest.raises(ValueError):
        Knowledge(lesson=0, tensors={}, stored=True, views="3", bytes=0, dtype="float32", why="")
