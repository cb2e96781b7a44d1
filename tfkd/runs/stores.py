"""Stores of a teacher's answers, built before any run, looked at, and put together."""

import keras
from rich import box
from rich.table import Table

import tfkd
from tfkd import TeacherCache, terminal
from tfkd.losses import AnnealedDistillation, DistillationLoss
from tfkd.runs import knowledge
from tfkd.runs.lessons import Lesson, load_data, with_folders
from tfkd.runs.teachers import Teacher
from tfkd.runs.training import augmentation_of
from tfkd.settings import TrainingSettings
from tfkd.teachers.cache.disk import readable
from tfkd.teachers.cache.folders import joined, stores_in


class _Reading(DistillationLoss):
    """Reads a tensor of the teacher, so that it is stored, and compares it with nothing."""

    adapts = "itself"

    def call(self, teacher, student):
        return 0.0 * student[:, 0]


def build(settings, folder):
    """See `tfkd.runs.build_cache`."""
    training = with_folders(settings.training())
    with terminal.step("Reading the data, looking at the teacher"):
        splits = load_data(training)
        teacher = Teacher(training, "teacher", splits)
        lesson = Lesson(0, 0, 0, 1.0, splits, teacher, training)
        asking = _asking(teacher.given, splits.info, settings.layer)
        tensors = knowledge.tensors_of(asking, splits.train)
    for finding in teacher.findings:
        terminal.say(f"Note: {finding}")
    dtype = settings.dtype or knowledge.dtype_for(tensors, settings.views, lesson.sizes["train"])
    others = {}
    if settings.top_k is not None:
        others = {"top_k": settings.top_k, "temperature": settings.temperature}
    name = knowledge.store_name(lesson, settings, settings.views, tensors, dtype, **others)
    path = joined(folder, name)
    terminal.say(f"Teacher's answers ({', '.join(tensors)}), {settings.views} views: {path}")
    TeacherCache.build(
        *(path, asking, lesson.train, augmentation_of(training), settings.views),
        batch_size=settings.batch_size,
        seed=settings.seed,
        dtype=dtype,
        shards=settings.shards,
        share=settings.part,
        **others,
    )
    _say_state(path, settings.part)
    return path


def _asking(teacher, info, layers):
    """A Distiller whose losses read what is to be stored; its student is there for its shape."""
    losses = [AnnealedDistillation(), *(_Reading(layer, None) for layer in layers)]
    image = keras.Input(info.image_shape)
    numbers = keras.layers.Dense(info.num_classes)
    student = keras.Model(image, numbers(keras.layers.GlobalAveragePooling2D()(image)))
    return tfkd.Distiller(teacher, student, losses)


def _say_state(path, part):
    found = TeacherCache.info(path)
    there = found["shards"] - len(found["missing"])
    size = readable(found["bytes"])
    if found["complete"]:
        return terminal.say(f"Complete: {found['shards']} files, {size}.")
    index, count = part
    terminal.say(
        f"Share {index}/{count} is done: {there} of {found['shards']} files are there, {size}. The "
        "other shares are not started here, or not finished. Where they are built on other disks, "
        "tfkd cache merge puts them together."
    )


def look(path):
    """See `tfkd.runs.cache_info`."""
    found = {own: TeacherCache.info(own) for own in _stores(path)}
    for own, information in found.items():
        _show(own, information)
    return found


def verify(path, name=None, settings=None):
    """See `tfkd.runs.verify_cache`."""
    dataset = None
    if name is not None:
        with terminal.step("Reading the data"):
            dataset = _data(name, settings)
    found = {own: TeacherCache.verify(own, dataset) for own in _stores(path)}
    for own, wrong in found.items():
        information = TeacherCache.info(own)
        there = information["shards"] - len(information["missing"])
        terminal.say(f"{own}: {there} of {information['shards']} files read")
        for text in wrong:
            terminal.say(f"  {text}")
        if not wrong:
            terminal.say("  every record is as it was written" + " and of this data" * bool(name))
    return found


def _data(name, settings):
    """The training split of data, as a run reads it."""
    return load_data(with_folders(TrainingSettings(data=name, **dict(settings)))).train


def merge(path, parts):
    """See `tfkd.runs.merge_caches`."""
    places = {}
    for part in parts:
        for own in _stores(part):
            name = "" if own == part else own.removeprefix(joined(part, ""))
            places.setdefault(name, []).append(own)
    made = []
    for name, owners in places.items():
        made.append(joined(path, name) if name else path)
        TeacherCache.merge(made[-1], owners)
        terminal.say(f"{made[-1]}: complete, put together from {len(owners)}.")
    return made


def _stores(path):
    """The store that lies at a path, or all that lie in it."""
    names = stores_in(path)
    return [joined(path, name) for name in names] or [path]


def _show(path, found):
    own = terminal.console()
    own.print(f"{path}", soft_wrap=True)
    table = Table("tensor", "shape", "stored as", box=box.SIMPLE_HEAD)
    for name, kept in found["knowledge"].items():
        most = f", the largest {kept['top_k']}" if kept["top_k"] else ""
        table.add_row(name, "x".join(map(str, kept["shape"])) or "1", kept["dtype"] + most)
    own.print(table)
    there, count = found["shards"] - len(found["missing"]), found["shards"]
    state = "complete" if found["complete"] else f"not finished, {there} of {count} files"
    augmentation = found["augmentation"]["name"] or "none"
    for what, text in {
        "State": state,
        "Size": f"{readable(found['bytes'])} in {there} files",
        "Examples": f"{found['examples']:,}, {found['views']} views of each",
        "Augmentation": f"{augmentation}, seed {found['seed']}",
        "Teacher": found["teacher"],
    }.items():
        own.print(f"{what}: {text}", soft_wrap=True)
