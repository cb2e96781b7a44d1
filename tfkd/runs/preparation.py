"""What settings stand for: data, models, losses; everything that can be checked before training."""

from typing import NamedTuple

import keras
import tensorflow as tf

from tfkd import data, evaluation, losses, models, recipes
from tfkd.distiller import Distiller
from tfkd.runs import hinting
from tfkd.runs.settings import SettingsError
from tfkd.runs.training import EVALUATION_BATCH
from tfkd.taps import OUTPUT, Taps

# The cut into train and validation is the same for every seed: a teacher from another run must not
# have been trained on what is validation here.
DATA_SEED = 0


class Prepared(NamedTuple):
    """Checked inputs of a run.

    Attributes:
        splits: `tfkd.data.Splits`.
        teacher: the model loaded from a file, or None where it is to be trained.
        teacher_quality: the loaded teacher's figures on the validation split, or None.
        hints: list of (teacher layer, student layer).
    """

    splits: data.Splits
    teacher: keras.Model | None
    teacher_quality: dict | None
    hints: list


def prepare(settings):
    """Loads data and teacher, builds every model once, and checks that all fit together.

    Raises:
        ValueError, FileNotFoundError: what does not fit, and how to mend it.
    """
    splits = load_data(settings)
    teacher, figures = None, None
    if settings.teacher_is_file:
        teacher = load_model(settings.teacher)
        check_teacher(teacher, settings.teacher, splits.info)
        batches = data.batches(splits.validation, EVALUATION_BATCH)
        figures = evaluation.quality(*evaluation.predict(Logits(teacher), batches))
    student = build("student", settings, splits.info)
    # A stand-in where the teacher is still to be trained: names and shapes are what is checked.
    stand_in = teacher or build("teacher", settings, splits.info)
    if settings.recipe:
        recipe_system(settings, stand_in, student).model(stand_in)
        return Prepared(splits, teacher, figures, [])
    hints = hint_pairs(settings, stand_in, student)
    distiller(settings, stand_in, student, hints)
    return Prepared(splits, teacher, figures, hints)


def recipe_system(settings, teacher, student):
    """The `tfkd.recipes.base.System` that the settings' recipe makes of a student.

    Raises:
        ValueError: a student that the recipe cannot use, or one without stages.
    """
    own = settings.recipe_settings()
    return recipes.get(settings.recipe).build(own, teacher, student)


def load_data(settings):
    """`tfkd.data.Splits` of the settings."""
    return data.load(
        settings.data,
        settings.data_dir,
        seed=DATA_SEED,
        limit=settings.limit,
        image_size=settings.image_size,
    )


def load_run_data(directory, record, settings):
    """The data of a finished run.

    Raises:
        ValueError: it changed since.
    """
    splits = load_data(settings)
    if splits.info.fingerprint != record["data"]["fingerprint"]:
        raise ValueError(
            f'The data "{settings.data}" is no longer what the run in "{directory.path}" was '
            f"trained and tested on: its fingerprint is {splits.info.fingerprint}, not "
            f"{record['data']['fingerprint']}."
        )
    return splits


def build(role, settings, info):
    """A new model, "teacher" or "student", from Keras's global seed."""
    name, options = getattr(settings, role), getattr(settings, f"{role}_options")
    try:
        return models.build(name, info.image_shape, info.num_classes, **options)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{role}: {error}") from error


def load_model(path):
    """A model from a `.keras` file, without its optimizer.

    Raises:
        ValueError: a damaged file, or classes that Keras does not know.
    """
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds, from the zip, HDF5 and its own reader
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f'"{path}" cannot be loaded as a Keras model: {reason} Expected a whole file written '
            "by model.save('NAME.keras'), of layers that Keras knows."
        ) from error


def check_teacher(teacher, path, info):
    """Raises ValueError unless a loaded teacher takes the data's images and knows its classes."""
    shape = info.image_shape
    if not isinstance(teacher, keras.Model):
        raise ValueError(f'"{path}" holds a {type(teacher).__name__}; expected a keras.Model.')
    taken = teacher.inputs[0].shape[1:] if teacher.inputs else shape
    if len(taken) != 3 or any(taken[i] not in (None, shape[i]) for i in range(3)):
        resize = ""
        if len(taken) == 3 and taken[0] and taken[0] == taken[1] and taken[2] in (None, shape[2]):
            resize = f" Set image_size to {taken[0]} to resize the images."
        raise ValueError(
            f'The teacher "{path}" takes inputs of shape {tuple(taken)}, but the images of '
            f'"{info.name}" have {shape}.{resize}'
        )
    outputs, _ = Taps(teacher).trace(tf.TensorSpec((None, *shape), "float32"))
    if OUTPUT not in outputs or len(outputs[OUTPUT]) != 2:
        raise ValueError(
            f'The teacher "{path}" has outputs of shape {outputs}; expected one of shape '
            "(batch, classes)."
        )
    classes = outputs[OUTPUT][1]
    if classes != info.num_classes:
        raise ValueError(
            f'The teacher "{path}" knows {classes} classes, but "{info.name}" has '
            f"{info.num_classes}. Give a teacher that was trained on these classes."
        )


def hint_pairs(settings, teacher, student):
    """The layers that hints compare: list of (teacher layer, student layer), shallow to deep."""
    return hinting.pairs(settings.hints if settings.hint_weight else "none", teacher, student)


def distiller(settings, teacher, student, hints):
    """The `tfkd.Distiller` of the settings.

    Raises:
        ValueError: an unknown layer, shapes that do not fit, or nothing to distil.
    """
    terms = hinting.losses(hints)
    weights = [settings.hint_weight] * len(terms)
    if settings.logits_weight:
        terms.insert(0, losses.LogitsDistillation(settings.temperature))
        weights.insert(0, settings.logits_weight)
    if not terms:
        raise SettingsError(
            'Nothing is distilled: logits_weight is 0 and hints="auto" found no stages to pair. '
            'Name the layers: hints = ["teacher_layer:student_layer"].'
        )
    return Distiller(teacher, student, terms, weights, settings.student_loss_weight)


class Logits:
    """A model as a function of images that returns logits, also where it ends in softmax."""

    def __init__(self, model):
        self.taps, self.name = Taps(model), model.name

    def __call__(self, images, training=False):
        return self.taps(images, training=training)[1][OUTPUT]
