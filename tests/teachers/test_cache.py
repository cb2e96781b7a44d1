"""The teacher cache: what the live teacher says of the same image, or an error that names why."""

import errno
import functools
import json
import os
import random
import re
import shutil

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from small_cache import (
    CROP_FLIP,
    dataset,
    distiller,
    examples,
    files,
    foreign,
    hint,
    live,
    network,
)

from tfkd import data
from tfkd.data.pipeline import from_arrays
from tfkd.losses import FeatureDistillation, LogitsDistillation
from tfkd.teachers.cache import TeacherCache, disk
from tfkd.teachers.cache.layout import from_top_k, top_k

layers = keras.layers


def assert_to_float16(stored, expected):
    assert stored.keys() == expected.keys()
    for name, values in expected.items():
        assert stored[name].dtype == np.float32
        np.testing.assert_allclose(stored[name], values, rtol=6e-4, atol=1e-6)


# Reading equals the live teacher on the image that the student sees.


@pytest.mark.parametrize("kind", [dataset, foreign])
@pytest.mark.parametrize("views", [1, 3])
def test_equals_the_live_teacher(tmp_path, kind, views):
    """Over five epochs, with a last batch that is short, whatever stands in which batch."""
    made, images = distiller(), examples()[0]
    cache = TeacherCache.build(tmp_path, made, kind(), CROP_FLIP, views, batch_size=16, seed=5)
    for shuffle in (False, True):
        batches = cache.dataset(kind(), 12, shuffle=shuffle)
        assert int(batches.cardinality()) == 4
        assert_live(made, images, batches, views)


def assert_live(made, images, batches, views):
    for epoch in range(5):
        seeds = data.view_seed(tf.range(40), epoch % views, 5)
        expected = {image.tobytes() for image in CROP_FLIP(images, seeds).numpy()}
        seen = []
        for x, y, sample_weight, knowledge in batches:
            np.testing.assert_array_equal(sample_weight, np.ones(len(x), "float32"))
            stored = {name: values.numpy() for name, values in knowledge.items()}
            numbers = stored.pop("index")
            assert numbers.dtype == np.int64
            np.testing.assert_array_equal(examples()[1][numbers], y)
            assert_to_float16(stored, live(made, x))
            seen += [image.tobytes() for image in x.numpy()]
        assert len(seen) == 40 and set(seen) == expected


def test_repeat_goes_on_with_the_next_view(tmp_path):
    cache = TeacherCache.build(tmp_path, distiller(), dataset(), CROP_FLIP, 2, batch_size=16)
    assert re.fullmatch(
        rf'TeacherCache\("{tmp_path}": 40 examples, 2 views of output \(\d+,\).*; [\d.]+ kB\)',
        repr(cache),
    )
    once = cache.dataset(dataset(), 40, shuffle=False)
    repeated = [knowledge["output"] for *_, knowledge in once.repeat(4)]
    assert not np.allclose(repeated[0], repeated[1])
    np.testing.assert_array_equal(repeated[0], repeated[2])
    np.testing.assert_array_equal(repeated[1], repeated[3])


def test_order_and_images_are_those_of_live_training(tmp_path):
    cache = TeacherCache.build(tmp_path, distiller(), dataset(), CROP_FLIP, 3, batch_size=16)
    stored = cache.dataset(dataset(), 12).repeat(3)
    given = data.batches(dataset(), 12, shuffle=True, augment=CROP_FLIP).repeat(3)
    for (x, y, *_), (images, labels) in zip(stored, given, strict=True):
        np.testing.assert_array_equal(x, images)
        np.testing.assert_array_equal(y, labels)


@pytest.mark.parametrize("kind", [dataset, foreign])
def test_shuffling_differs_by_epoch_and_repeats_by_seed(tmp_path, kind):
    cache = TeacherCache.build(tmp_path, distiller(), kind(), batch_size=16)

    def orders(seed):
        keras.utils.set_random_seed(0)
        batches = cache.dataset(kind(), 40, seed=seed)
        return [next(iter(batches))[0].numpy().tobytes() for _ in range(3)]

    assert len(set(orders(1))) == 3
    assert orders(1) == orders(1)
    assert not set(orders(1)) & set(orders(2))


def test_training_from_the_cache_equals_training_live(tmp_path):
    """18 augmented steps of student and adapter, with the teacher gone."""
    epochs, by_teacher, by_cache = 6, distiller(), distiller(teacher=None)
    cache = TeacherCache.build(
        tmp_path, by_teacher, dataset(48), CROP_FLIP, epochs, 16, seed=3, dtype="float32"
    )
    by_cache.evaluate(cache.dataset(dataset(48), 16), verbose=0)  # builds the adapter
    variables = by_cache.trainable_variables
    for variable, same in zip(variables, by_teacher.trainable_variables, strict=True):
        variable.assign(same)
    before = [variable.numpy() for variable in variables]
    given = data.batches(dataset(48), 16, shuffle=True, augment=CROP_FLIP, seed=3)
    by_teacher.fit(given, epochs=epochs, verbose=0)
    by_cache.fit(cache.dataset(dataset(48), 16), epochs=epochs, verbose=0)
    pairs = zip(variables, by_teacher.trainable_variables, before, strict=True)
    for cached, live_variable, start in pairs:
        scale = np.abs(live_variable).max()
        assert np.abs(cached - live_variable).max() < 1e-4 * scale
        assert np.abs(cached - start).max() > 1e-2 * scale


def test_no_teacher_in_memory(tmp_path):
    TeacherCache.build(tmp_path, distiller(), dataset(), CROP_FLIP, 2, batch_size=16)
    alone = distiller(teacher=None)
    cache = TeacherCache(tmp_path, alone)
    history = alone.fit(cache.dataset(dataset(), 16), epochs=4, verbose=0).history
    assert alone.teacher is None
    assert history["loss"][-1] < history["loss"][0]
    assert cache.knowledge_shapes == {"output": (None, 4), "stage1_out": (None, 4, 4, 6)}


def test_the_teacher_is_the_one_of_now(tmp_path):
    """Not the one that was frozen for an earlier fit."""
    made, images = distiller(), examples()[0]
    made.fit(data.batches(dataset(), 20), verbose=0)
    made.teacher.set_weights([0.5 * weight for weight in made.teacher.get_weights()])
    cache = TeacherCache.build(tmp_path, made, dataset(), batch_size=16)
    knowledge = next(iter(cache.dataset(dataset(), 40, shuffle=False)))[-1]
    expected = live(made, images)["output"]
    np.testing.assert_allclose(knowledge["output"], expected, rtol=6e-4, atol=1e-6)


# What is stored.


@pytest.mark.parametrize(
    ("hints", "options", "size"),
    [
        (0, {}, 8 + 100 * 2),
        (0, {"dtype": "float32"}, 8 + 100 * 4),
        (0, {"top_k": 5}, 8 + 5 * (2 + 2) + 2),
        (1, {"top_k": 5}, 8 + 5 * (2 + 2) + 2 + 4 * 4 * 6 * 2),
    ],
)
def test_bytes_of_an_example(tmp_path, hints, options, size):
    """A fingerprint of 8 bytes and the numbers themselves, for each view; 40 in three shards."""
    losses = [LogitsDistillation()] + hints * [hint()]
    made = distiller(losses=losses, classes=100)
    TeacherCache.build(tmp_path, made, dataset(), CROP_FLIP, 2, 16, **options)
    shards = sorted(tmp_path.glob("*.npy"))
    assert [path.name for path in shards] == [f"shard-{n:05d}.npy" for n in range(3)]
    for path, count in zip(shards, (16, 16, 8), strict=True):
        stored = np.load(path)
        assert stored.shape == (count, 2) and stored.dtype.itemsize == size
        assert path.stat().st_size - stored.nbytes in (192, 256, 320, 384)  # NumPy's header
    names = {path.name for path in tmp_path.iterdir()} - {path.name for path in shards}
    assert names == {"manifest.json"}


def test_shards_are_arrays_that_numpy_reads(tmp_path):
    made, (images, _) = distiller(), examples()
    TeacherCache.build(tmp_path, made, dataset(), batch_size=64)
    stored = np.load(tmp_path / "shard-00000.npy")
    for name, values in live(made, images).items():
        np.testing.assert_allclose(stored[name][:, 0], values, rtol=6e-4, atol=1e-6)


def test_a_large_cache_has_about_64_shards(tmp_path):
    TeacherCache.build(tmp_path, distiller(), dataset(200), batch_size=1)
    shards = json.loads((tmp_path / "manifest.json").read_text())["shards"]
    assert len(shards) == 50  # of four examples each


def test_top_k_keeps_probabilities_and_spreads_the_rest_evenly():
    logits = np.random.default_rng(0).normal(0, 2, (3, 2, 20)).astype("float32")
    for temperature in (1.0, 4.0):
        parts = top_k(tf.constant(logits), 5, temperature)
        stored = from_top_k(*parts, 20).numpy()

        def probabilities(values, temperature=temperature):
            powers = np.exp(values.astype("float64") / temperature)
            return powers / powers.sum(-1, keepdims=True)

        teacher, student = probabilities(logits), probabilities(stored)
        kept = np.argsort(-logits, axis=-1)[..., :5]
        np.testing.assert_allclose(
            np.take_along_axis(student, kept, -1), np.take_along_axis(teacher, kept, -1), rtol=1e-5
        )
        np.testing.assert_array_equal(
            np.take_along_axis(stored, kept, -1), np.take_along_axis(logits, kept, -1)
        )
        rest = np.delete(student[0, 0], kept[0, 0])
        left = 1 - teacher[0, 0, kept[0, 0]].sum()
        np.testing.assert_allclose(rest, left / 15, rtol=1e-5)


def test_top_k_through_the_cache(tmp_path):
    made, (images, _) = distiller(classes=100), examples()
    cache = TeacherCache.build(tmp_path, made, dataset(), batch_size=16, top_k=7, temperature=2.0)
    knowledge = next(iter(cache.dataset(dataset(), 40, shuffle=False)))[-1]
    logits = live(made, images)["output"]
    expected = from_top_k(*top_k(tf.constant(logits), 7, 2.0), 100)
    np.testing.assert_allclose(knowledge["output"], expected, rtol=6e-4, atol=1e-6)
    assert not np.allclose(expected, logits, atol=1e-2)


# Bad input.


HOW = {"augment": CROP_FLIP, "views": 2, "batch_size": 16}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """(Distiller, directory of its cache)."""
    directory, made = tmp_path_factory.mktemp("original"), distiller()
    TeacherCache.build(directory, made, dataset(), **HOW)
    return made, directory


@pytest.fixture
def built(original, tmp_path):
    """How the cache in `tmp_path` was built, a function of the data."""
    made, directory = original
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    return functools.partial(TeacherCache.build, tmp_path, made, **HOW)


def test_another_teacher(tmp_path, built):
    other = distiller()
    for use in (
        lambda: TeacherCache(tmp_path, other),
        lambda: TeacherCache.build(tmp_path, other, dataset(), CROP_FLIP, 2, 16),
    ):
        with pytest.raises(ValueError, match="differs: the teacher, its weights .*another direct"):
            use()


def test_the_same_teacher_built_anew_is_the_same(tmp_path, built):
    made = built.args[1]
    twin = network(6)
    assert twin.name != made.teacher.name
    twin.set_weights(made.teacher.get_weights())
    assert TeacherCache(tmp_path, distiller(twin)).manifest["views"] == 2
    deeper = keras.Model(twin.input, layers.Activation("tanh")(twin.output))
    with pytest.raises(ValueError, match="the teacher"):
        TeacherCache(tmp_path, distiller(deeper))


def test_other_taps(tmp_path, built):
    losses = [FeatureDistillation("mse", "conv", "stage1_out")]
    teacher = network(6)
    teacher.layers[2].name = "conv"
    with pytest.raises(ValueError, match=r"losses read \['conv'\].*Build another"):
        TeacherCache(tmp_path, distiller(teacher, losses))
    logits_alone = distiller(built.args[1].teacher, [LogitsDistillation()])
    TeacherCache(tmp_path, logits_alone)  # needs less than there is


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": 3}, r"number of views \(built with 2, now 3\)"),
        ({"seed": 1}, "the seed"),
        ({"augment": data.augmentation("crop")}, r"the augmentation .*_flip.*:crop\W"),
        ({"augment": None}, "the augmentation"),
        ({"dtype": "float32"}, "the tensors"),
        ({"top_k": 2}, "the tensors"),
    ],
)
def test_other_settings(built, change, message):
    with pytest.raises(ValueError, match=f"belongs to something else.*{message}"):
        built(dataset(), **change)


@pytest.mark.parametrize("kind", [dataset, foreign])
def test_other_data(tmp_path, built, kind):
    for use in (built, lambda other: TeacherCache(tmp_path).dataset(other, 16)):
        with pytest.raises(ValueError, match="example 0 of the dataset is not the image"):
            use(kind(seed=1))
        with pytest.raises(ValueError, match=r"number of examples \(built with 40, now 41\)"):
            use(kind(41))


def test_one_other_example_is_named_when_it_is_read(tmp_path):
    cache = TeacherCache.build(tmp_path, distiller(), dataset(200), batch_size=16)
    images, labels = examples(200)
    images[100, 3, 3, 0] ^= 1  # between the 64 examples that are compared beforehand
    batches = cache.dataset(from_arrays(images, labels), 16)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="example 100 of the"):
        list(batches)


def brighter(images, seeds, by=1):
    return images + tf.cast(by, images.dtype)


def darker(images, seeds, by=1):
    return images - tf.cast(by, images.dtype)


def test_an_augmentation_that_became_another(tmp_path):
    """A function of the same name, with other settings or another body."""
    augment = functools.partial(brighter, by=3)
    cache = TeacherCache.build(tmp_path, distiller(), dataset(), augment, batch_size=16)
    assert cache.manifest["augmentation"] == {
        "name": f"{brighter.__module__}:brighter",
        "settings": {"by": 3},
    }
    x = next(iter(cache.dataset(dataset(), 40, shuffle=False, augment=augment)))[0]
    np.testing.assert_array_equal(x, examples()[0] + 3)
    for other in (brighter, functools.partial(brighter, by=2), darker):
        with pytest.raises(ValueError, match="augmentation gives other images"):
            cache.dataset(dataset(), 16, augment=other)


def test_an_augmentation_without_a_name(tmp_path):
    def inner(images, seeds):
        return images + 1

    with pytest.raises(ValueError, match="augment_name="):
        TeacherCache.build(tmp_path, distiller(), dataset(), inner)
    cache = TeacherCache.build(tmp_path, distiller(), dataset(), inner, augment_name="plus-1")
    with pytest.raises(ValueError, match=r'"plus-1" is none of tfkd.data.*augment='):
        cache.dataset(dataset(), 16)
    x = next(iter(cache.dataset(dataset(), 40, False, augment=inner)))[0]
    np.testing.assert_array_equal(x, examples()[0] + 1)


@pytest.mark.parametrize("damage", ["bit", "short", "missing"])
def test_a_damaged_shard_is_named_and_made_anew(tmp_path, built, damage):
    whole, path = files(tmp_path), tmp_path / "shard-00001.npy"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content if damage == "bit" else content[:-5])
    if damage == "missing":
        path.unlink()
    with pytest.raises(ValueError, match="shard-00001.npy .1 of 3.*TeacherCache.build again"):
        TeacherCache(tmp_path)
    built(dataset())
    assert files(tmp_path) == whole


def test_a_shard_that_shrinks_while_it_is_read(tmp_path, built):
    batches = TeacherCache(tmp_path).dataset(dataset(), 16)
    os.truncate(tmp_path / "shard-00001.npy", 300)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="become shorter"):
        list(batches)


def test_no_cache_and_other_files(tmp_path, built):
    with pytest.raises(ValueError, match="no teacher cache in .*build makes one"):
        TeacherCache(tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="manifest.json.* is damaged"):
        TeacherCache(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match="holds other files"):
        built(dataset())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": 0}, "views must be a whole number"),
        ({"top_k": 0}, "top_k must be"),
        ({"dtype": "int8"}, "float16"),
        ({"temperature": 0}, "temperature must be positive"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"distiller": None}, "this Distiller has none"),
        ({"dataset": lambda: foreign().batch(4)}, "unbatched.*dataset.unbatch"),
        (
            {"dataset": lambda: foreign().batch(4, drop_remainder=True)},
            r"unbatched.*\(4, 8, 8, 3\).*takes \(8, 8, 3\).*dataset.unbatch",
        ),
        ({"dataset": lambda: foreign().filter(lambda *_: True)}, "does not know its length"),
        ({"dataset": lambda: foreign().repeat()}, "has no end"),
        ({"dataset": lambda: foreign().take(0)}, "is empty"),
    ],
)
def test_unfit_arguments(tmp_path, change, message):
    made = distiller(teacher=None) if "distiller" in change else distiller()
    given = change.get("dataset", dataset)()
    arguments = {**change, "distiller": made, "dataset": given}
    with pytest.raises(ValueError, match=message):
        TeacherCache.build(tmp_path / "cache", **arguments)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("value", [np.nan, 1e5])
def test_what_float16_cannot_hold(tmp_path, value):
    made = distiller()
    made.teacher.get_layer("logits").bias.assign([0, value, 0, 0])
    with pytest.raises(ValueError, match='"output" of example 0, view 0, is NaN, inf.*float32'):
        TeacherCache.build(tmp_path, made, dataset())
    if np.isfinite(value):
        TeacherCache.build(tmp_path, made, dataset(), dtype="float32")


# Interrupted, crowded out, full.


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=40 * 208 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    # Of four classes one logit, its class and the rest take 6 bytes in the place of 8; two take 10.
    fits = "needs 8.3 kB, .* 8.3 kB free. Make room.*would fit: float16 and top_k=1:"
    with pytest.raises(OSError, match=fits) as error:
        TeacherCache.build(tmp_path, distiller(), dataset(), batch_size=16)
    assert error.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())
    TeacherCache.build(tmp_path, distiller(), dataset(38), batch_size=16)  # as the message says


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
    """In the third of three shards: the first two stay, and the next call makes the third."""
    made, teacher_runs, real = distiller(), [], disk.LocalFolder.write_shard

    def full(folder, name, parts):
        if "00002" in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(folder, name, parts)

    monkeypatch.setattr(disk.LocalFolder, "write_shard", full)
    with pytest.raises(
        OSError, match="disk is full. 2 of 3 shards .* stay; about 1.7 kB more.*free"
    ):
        TeacherCache.build(tmp_path, made, dataset(), batch_size=16)
    with pytest.raises(ValueError, match="not finished: 2 of 3 shards.*build again"):
        TeacherCache(tmp_path)
    monkeypatch.setattr(
        disk.LocalFolder, "write_shard", lambda *a: teacher_runs.append(a[1]) or real(*a)
    )
    TeacherCache.build(tmp_path, made, dataset(), batch_size=16)
    assert teacher_runs == ["shard-00002.npy"]


def test_a_build_that_finished_nothing_stands_in_nobodys_way(tmp_path):
    made = distiller()
    build = functools.partial(TeacherCache.build, tmp_path, made, dataset(), CROP_FLIP, 2)
    assert build(batch_size=16, share=(0, 2)) is None
    with pytest.raises(ValueError, match=r"batch_size \(built with 16, now 8\).*number of shards"):
        build(batch_size=8)
    (shard,) = tmp_path.glob("*.npy")
    shard.write_bytes(shard.read_bytes()[:-1])
    assert build(batch_size=32).manifest["batch_size"] == 32
    assert len(list(tmp_path.iterdir())) == 3  # two shards where there were three, and the manifest
    assert build(batch_size=8).manifest["batch_size"] == 32  # finished: nothing to do


def test_silent_without_a_terminal(tmp_path, capfd):
    TeacherCache.build(tmp_path, distiller(), dataset(), batch_size=16)
    assert capfd.readouterr() == ("", "")


KILLED = """
import faulthandler, json, os, random, signal, sys, time
from pathlib import Path
import keras, numpy as np
import tfkd
from tfkd.data.pipeline import from_arrays
sys.path.insert(0, "tests/teachers")
import small_cache
from tensorflow.python.eager import context

# So a fork is as good as a new process, and quicker: TensorFlow is loaded, but has run nothing yet.
assert not context.context()._initialized, "no tensor may be made when small_cache is imported"

def build(directory, ready):
    keras.utils.set_random_seed(0)
    made = small_cache.distiller()
    os.write(ready, b"x")
    dataset = small_cache.dataset(512)
    tfkd.TeacherCache.build(directory, made, dataset, small_cache.CROP_FLIP, 2, 8)

def seen(directory):
    return {n: own for n, own in small_cache.files(directory).items() if not n.startswith(".")}

def start(directory):
    wait, ready = os.pipe()
    process = os.fork()
    if process == 0:
        faulthandler.dump_traceback_later(600, exit=True)
        try:
            build(directory, ready)
        finally:
            os._exit(0 if (Path(directory) / "manifest.json").exists() else 1)
    os.close(ready)
    assert os.read(wait, 1), "the builder ended before it began"
    return process

def kill(process, delay):
    time.sleep(delay)
    os.kill(process, signal.SIGKILL)

def end(process):
    return os.waitpid(process, 0)[1]

def child(directory, delay=None):
    process, begin = start(directory), time.monotonic()
    if delay is not None:
        kill(process, delay)
    return end(process), time.monotonic() - begin

root, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
random.seed(seed)
status, seconds = child(root / "whole")
assert status == 0, status
whole = seen(root / "whole")
found, number = [], 0
while len(found) < kills:
    directory = root / f"killed-{number}"
    status, _ = child(directory, random.uniform(0.1, 1.0) * seconds)
    if status == signal.SIGKILL:
        shards = len(list(directory.glob("*.npy")))
        found.append(shards)
    if len(found) == kills or (directory / "manifest.json").exists():
        assert child(directory)[0] == 0
        assert seen(directory) == whole, sorted(seen(directory))
        number += 1
survived = []
while len(survived) < kills:
    directory = root / f"two-{len(survived)}"
    builders = [start(directory), start(directory)]
    kill(builders[len(survived) % 2], random.uniform(0.1, 1.0) * seconds)
    ends = [end(process) for process in builders]
    survived.append(signal.SIGKILL in ends)
    assert set(ends) <= {0, signal.SIGKILL} and 0 in ends, ends
    assert seen(directory) == whole, sorted(seen(directory))
print(json.dumps({"shards": len(whole) - 1, "when_killed": found, "survived": survived}))
"""


def test_killed_at_random_moments(tmp_path):
    """One builder, which is started again, and one of two, whose shards the other one takes over.

    TFKD_KILLS=20 does it twenty times: the bytes are those of a build that nobody disturbed.
    """
    kills, seed = int(os.environ.get("TFKD_KILLS", 1)), random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    patience = 120 + 200 * kills
    said = forked.output_of(KILLED, tmp_path, tmp_path, kills, seed, patience=patience)
    found = json.loads(said.splitlines()[-1])
    assert found["shards"] == 64
    assert len(found["when_killed"]) == len(found["survived"]) == kills
    print(found)
