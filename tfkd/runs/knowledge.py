"""What the teacher says, asked once: which rows learn from stored answers, and in how many views.

Rows that share a data set (or the same fraction of it), a teacher and the augmentation share one
store of the teacher's answers, whatever their seed; only a row whose losses read layers that the
others do not has a store of its own. All rows of such a lesson see the same number of views of each
image, so that the student alone sees what the distilled one sees.
"""

import hashlib
import json
import math
import shutil

import tensorflow as tf

from tfkd import TeacherCache, fused
from tfkd.batches import own_inputs
from tfkd.files import full_disk_named
from tfkd.runs.record import Knowledge
from tfkd.runs.training import BOTH, STUDENT, augmentation_of
from tfkd.teachers.cache.folders import joined, stores_in

FREE_SHARE = 4  # one part in so many of the free disk, unless told
# Larger stores are in half precision: reading them takes longer than their digits are worth.
FULL_PRECISION = 1e9  # bytes
FINGERPRINT = 8  # bytes of each stored record
BYTES = {"float16": 2, "float32": 4}


def tensors_of(distiller, dataset, augment=None):
    """{name: shape without the batch} of what a distiller's losses read of its teacher.

    Args:
        distiller: `tfkd.Distiller`.
        dataset: unbatched, of (x, y): the teacher is asked about zeros, an empty text.
        augment: what makes an input for each of images, where the distiller has separate ones.
    """
    x, y = tf.nest.map_structure(
        lambda spec: tf.zeros((1, *spec.shape), spec.dtype), dataset.element_spec
    )
    if distiller.separate_inputs:
        x = own_inputs(augment(x, tf.zeros((1, 2), tf.int64)))[0]
    answers = distiller.knowledge(x, y)
    return {name: list(tensor.shape[1:]) for name, tensor in sorted(answers.items())}


def budget(settings, folder):
    """(bytes that the stored answers may take, the same in words)."""
    if settings.cache_gb is not None:
        return settings.cache_gb * 1e9, f"--cache-gb {settings.cache_gb:g}"
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free // FREE_SHARE
    return free, f"{readable(free)}, a quarter of the free disk"


def plan(lesson, room, before=(), kept=None):
    """Where the rows of a lesson have the teacher's answers from.

    Args:
        lesson: `tfkd.runs.lessons.Lesson`.
        room: what `budget` returned, less what other lessons take.
        before: list of `Knowledge` that the run began with: what was decided stays.
        kept: function of (tensors, source) to the {name: dtype} of stores that are there already.

    Returns:
        list of `Knowledge`, one for each store; one that is not stored where the teacher answers
        live; empty where no row asks the teacher.
    """
    needs = [(lesson.sources.get(row, ""), tensors) for row, tensors in lesson.needs.items()]
    stores = []
    for source, tensors in sorted(needs, key=lambda one: len(one[1]), reverse=True):
        if not any(source == s and tensors.items() <= own.items() for s, own in stores):
            stores.append((source, tensors))
    if not stores:
        return []
    began = next((own for own in before if own.lesson == lesson.key), None)
    if began is None and kept is not None:
        there = [kept(tensors, source) for source, tensors in stores]
        if all(there):
            return [
                _found(lesson, source, tensors, *max(own.items(), key=lambda kept: kept[1]))
                for (source, tensors), own in zip(stores, there, strict=True)
            ]
    if began is not None and began.store:
        return [own for own in before if own.lesson == lesson.key]
    largest = [tensors for _, tensors in stores]
    wanted = lesson.wanted_views
    for dtype, most in (("float32", min(room[0], FULL_PRECISION)), ("float16", room[0])):
        sizes = [_view_bytes(tensors, dtype, lesson.sizes["train"]) for tensors in largest]
        views = min(wanted, int(most // sum(sizes)))
        if views == wanted:
            break
    why = f"{views} of {wanted} views fit {room[1]}"
    if views == wanted:
        why = "a view for every epoch" if wanted == lesson.settings.epochs else f"--views {wanted}"
        why = why if lesson.augmented else f"{lesson.task.things} are not augmented"
    if not views:
        count, things = lesson.sizes["train"], lesson.task.things
        each = sum(sizes) / count
        why = (
            f"one view needs {readable(sum(sizes))}, {readable(each)} for each of {count:,} "
            f"{things}, but there is {room[1]}, enough for {int(room[0] // each):,}"
        )
    if lesson.settings.cache_gb is None and not worth_reading(largest, lesson.info.image_shape):
        why = "a GPU answers sooner than so much is read; --cache-gb stores it all the same"
        views = 0
    if began is not None:
        views, dtype, why = began.views if began.stored else 0, began.dtype, began.why
        sizes = [_view_bytes(tensors, dtype, lesson.sizes["train"]) for tensors in largest]
    shared = {"lesson": lesson.key, "why": why, "stored": views > 0, "dtype": dtype}
    if not views:
        return [Knowledge(**shared, tensors=largest[0], views=wanted, bytes=0)]
    return [
        Knowledge(**shared, source=source, tensors=tensors, views=views, bytes=views * size)
        for (source, tensors), size in zip(stores, sizes, strict=True)
    ]


def _found(lesson, source, tensors, store, dtype):
    """The plan of a store that is there already."""
    size = lesson.wanted_views * _view_bytes(tensors, dtype, lesson.sizes["train"])
    return Knowledge(
        lesson=lesson.key,
        source=source,
        tensors=tensors,
        stored=True,
        views=lesson.wanted_views,
        dtype=dtype,
        bytes=size,
        why=f"found in --cache: {store}",
        store=store,
    )


def dtype_for(tensors, views, examples):
    """ "float32" where a store of these tensors is small, else "float16"."""
    small = views * _view_bytes(tensors, "float32", examples) <= FULL_PRECISION
    return "float32" if small else "float16"


def worth_reading(stores, image_shape):
    """Whether stored answers are read where a teacher could be asked.

    On a CPU always: it takes longer to answer. Beside a GPU, which was not measured, as long as an
    example's answers are no larger than its image: then reading at most doubles the input.

    Args:
        stores: list of {name: shape without the batch} of what is stored of an example.
        image_shape: (height, width, channels) of uint8 images; () of texts, smaller than answers.
    """
    size = sum(_view_bytes(tensors, "float16", 1) for tensors in stores)
    return fused.on_cpu() or size <= math.prod(image_shape)


def _view_bytes(tensors, dtype, examples):
    """Bytes of one view of all examples."""
    return examples * (BYTES[dtype] * sum(map(math.prod, tensors.values())) + FINGERPRINT)


def store_for(tensors, plans, source=""):
    """Position of the first store that holds some tensors of a source."""
    return next(
        position
        for position, own in enumerate(plans)
        if own.source == source and tensors.items() <= own.tensors.items()
    )


def store_name(lesson, settings, views, tensors, dtype, source="", **others):
    """The name of a store: first what the teacher was asked, then what is kept of its answers.

    Args:
        lesson: `tfkd.runs.lessons.Lesson`.
        settings: of the run, or those of `tfkd cache build`.
        views, tensors, dtype, source: as in `Knowledge`.
        others: what makes it a store that no run looks for, such as top_k.
    """
    asked = [views, settings.seed, lesson.fingerprint]
    asked += [lesson.settings.augmentation, lesson.settings.separate_augmentation]
    asked += [lesson.teacher_fingerprint, lesson.sizes["train"], source, others]
    return f"{_digest(asked)[:16]}-{_digest([tensors, dtype])[:8]}"


def kept_stores(folder, lesson, settings, tensors, source=""):
    """{name: dtype} of the finished stores in a folder that hold what rows would store.

    Args:
        folder: the directory or URL of `--cache`.
        lesson, settings: as for `store_name`.
        tensors: {name: shape} that are needed; a store may hold more.
    """
    name = store_name(lesson, settings, lesson.wanted_views, tensors, "", source)
    found = {}
    for own in stores_in(folder, name.partition("-")[0]):
        information = TeacherCache.info(joined(folder, own))
        held = {n: kept["shape"] for n, kept in information["knowledge"].items()}
        if information["complete"] and tensors.items() <= held.items():
            (found[own],) = {kept["dtype"] for kept in information["knowledge"].values()}
    return found


def build(own, folder, asking, lesson, settings):
    """The `TeacherCache` of a plan, built where it is not there yet.

    Args:
        own: `Knowledge`.
        folder: of this run's stores, path or URL.
        asking: `tfkd.Distiller` with the teacher, whose losses read the plan's tensors.
        lesson: `tfkd.runs.lessons.Lesson`.
        settings: of the run.
    """
    path = _path(own, folder, lesson, settings)
    if own.store:
        return TeacherCache(path, asking)
    role = BOTH if asking.separate_inputs else STUDENT
    augment = augmentation_of(lesson.settings, role, lesson.info)
    # What is dense fills the memory in batches that are larger than those of training.
    sizes = {} if lesson.task.classifies else {"batch_size": lesson.settings.batch_size}
    with full_disk_named(path):
        try:
            return TeacherCache.build(
                *(path, asking, lesson.examples, augment, own.views),
                seed=settings.seed,
                dtype=own.dtype,
                **sizes,
            )
        except ValueError as error:
            raise ValueError(
                f"{error} With --cache-gb 0 the teacher answers live, and nothing is stored."
            ) from error


def opened(own, folder, lesson, settings):
    """The `TeacherCache` that another process has built; arguments as for `build`."""
    return TeacherCache(_path(own, folder, lesson, settings))


def _path(own, folder, lesson, settings):
    kept = (own.views, own.tensors, own.dtype, own.source)
    return joined(folder, own.store or store_name(lesson, settings, *kept))


def _digest(content):
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def readable(size):
    """A number of bytes as people write it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
