"""What the teacher says, asked once: which rows learn from stored answers, and in how many views.

Rows that share a data set (or the same fraction of it), a teacher and the augmentation share one
store of the teacher's answers, whatever their seed; only a row whose losses read layers that the
others do not has a store of its own. All rows of such a task see the same number of views of each
image, so that the student alone sees what the distilled one sees.
"""

import hashlib
import json
import math
import shutil

import numpy as np
import tensorflow as tf

from tfkd import TeacherCache
from tfkd.batches import own_inputs
from tfkd.files import full_disk_named
from tfkd.runs.record import Knowledge
from tfkd.runs.training import BOTH, STUDENT, augmentation_of

FREE_SHARE = 4  # one part in so many of the free disk, unless told
# Larger stores are in half precision: reading them takes longer than their digits are worth.
FULL_PRECISION = 1e9  # bytes
FINGERPRINT = 8  # bytes of each stored record
BYTES = {"float16": 2, "float32": 4}


def tensors_of(distiller, image_shape, augment=None):
    """{name: shape without the batch} of what a distiller's losses read of its teacher.

    Args:
        distiller: `tfkd.Distiller`.
        image_shape: of the data's images.
        augment: what makes an input for each of images, where the distiller has separate ones.
    """
    x = np.zeros((1, *image_shape), "uint8")
    if distiller.separate_inputs:
        x = own_inputs(augment(x, tf.zeros((1, 2), tf.int64)))[0]
    answers = distiller.knowledge(x, np.zeros(1, "int32"))
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


def plan(task, room, before=()):
    """Where the rows of a task have the teacher's answers from.

    Args:
        task: `tfkd.runs.tasks.Task`.
        room: what `budget` returned, less what other tasks take.
        before: list of `Knowledge` that the run began with: what was decided stays.

    Returns:
        list of `Knowledge`, one for each store; one that is not stored where the teacher answers
        live; empty where no row asks the teacher.
    """
    needs = [(task.sources.get(row, ""), tensors) for row, tensors in task.needs.items()]
    stores = []
    for source, tensors in sorted(needs, key=lambda one: len(one[1]), reverse=True):
        if not any(source == s and tensors.items() <= own.items() for s, own in stores):
            stores.append((source, tensors))
    if not stores:
        return []
    largest = [tensors for _, tensors in stores]
    wanted = task.wanted_views
    for dtype, most in (("float32", min(room[0], FULL_PRECISION)), ("float16", room[0])):
        sizes = [_view_bytes(tensors, dtype, task.sizes["train"]) for tensors in largest]
        views = min(wanted, int(most // sum(sizes)))
        if views == wanted:
            break
    why = f"{views} of {wanted} views fit {room[1]}"
    if views == wanted:
        why = "a view for every epoch" if wanted == task.settings.epochs else f"--views {wanted}"
        why = why if task.augmented else "images are not augmented"
    if not views:
        why = f"one view needs {readable(sum(sizes))}, but there is {room[1]}"
    began = next((own for own in before if own.task == task.key), None)
    if began is not None:
        views, dtype, why = began.views if began.stored else 0, began.dtype, began.why
        sizes = [_view_bytes(tensors, dtype, task.sizes["train"]) for tensors in largest]
    shared = {"task": task.key, "why": why, "stored": views > 0, "dtype": dtype}
    if not views:
        return [Knowledge(**shared, tensors=largest[0], views=wanted, bytes=0)]
    return [
        Knowledge(**shared, source=source, tensors=tensors, views=views, bytes=views * size)
        for (source, tensors), size in zip(stores, sizes, strict=True)
    ]


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


def build(own, folder, asking, task, settings):
    """The `TeacherCache` of a plan, built where it is not there yet.

    Args:
        own: `Knowledge`.
        folder: of this run's stores.
        asking: `tfkd.Distiller` with the teacher, whose losses read the plan's tensors.
        task: `tfkd.runs.tasks.Task`.
        settings: of the run.
    """
    path = _path(own, folder, task, settings)
    role = BOTH if asking.separate_inputs else STUDENT
    augment = augmentation_of(task.settings, role)
    with full_disk_named(path):
        try:
            return TeacherCache.build(
                *(path, asking, task.train, augment, own.views),
                seed=settings.seed,
                dtype=own.dtype,
            )
        except ValueError as error:
            raise ValueError(
                f"{error} With --cache-gb 0 the teacher answers live, and nothing is stored."
            ) from error


def opened(own, folder, task, settings):
    """The `TeacherCache` that another process has built; arguments as for `build`."""
    return TeacherCache(_path(own, folder, task, settings))


def _path(own, folder, task, settings):
    identity = [own.model_dump(include={"tensors", "views", "dtype"}), settings.seed]
    identity += [own.source] * bool(own.source)
    name, options = task.settings.augmentation
    identity += [[name, options] if options else name, task.fingerprint]
    identity += [task.teacher_fingerprint, task.sizes["train"]]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return folder / digest


def readable(size):
    """A number of bytes as people write it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
