"""Feng et al., "Resolution-Aware Knowledge Distillation for Efficient Inference", IEEE Transactions
on Image Processing (2021), doi 10.1109/tip.2021.3101158.

From the paper (its abstract): the teacher sees images of high, the student of low resolution; a
discriminator and an adversarial loss make the gap between them smaller (RKD), and a pair-wise
constraint and the maximum mean discrepancy are added (CRKD); re-identification, classification,
faces and defects; the larger the gap, the more is gained.

Reconstruction, everything else: no formula, number or code was found. With features t, s before the
classifier, G the matrix of similarities within the batch, each row of length 1,

    L = label_weight · CE(y, s) + logits_weight · T² KL(t || s) + pair_weight · ||G_T - G_S||² / B²
      + discrepancy_weight · MMD²(t, s) + adversarial_weight · [-log D(t) - log(1 - D(s))]

D is a discriminator of one hidden layer; into the student goes its gradient turned around. (RKD is
also the name of Park et al.'s relational distillation, `tfkd.losses.RelationalDistillation`.)

The student is your network for images of 1 / `reduction` of the size, behind a layer that averages
squares of reduction x reduction pixels. So both models are given one image, the teacher's answers
can be stored, and what is deployed takes images of full size and costs what small ones cost.
`small_images(student)` takes the layer off, for cameras that give small images to begin with.
"""

from typing import Annotated, ClassVar

from pydantic import Strict

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0, Count, SettingsError
from tfkd.settings.recipe import RecipeSettings

REDUCED = "low_resolution"
Counts = Annotated[tuple[Count, ...], Strict(False)]


class Feng2021(RecipeSettings):
    """All numbers are ours."""

    recipe: ClassVar = "feng2021"

    student: str = "resnet"
    """Model to train as student, which can be built for small images."""
    reduction: Count = 2
    """The student sees images of 1 / reduction of the height and width."""
    temperature: Above0 = 4.0
    """Softens both models' logits."""
    label_weight: AtLeast0 = 0.5
    """Weight of the labels."""
    logits_weight: AtLeast0 = 0.5
    """Weight of the distilled logits."""
    pair_weight: AtLeast0 = 100.0
    """Weight of the similarities within the batch."""
    discrepancy_weight: AtLeast0 = 0.05
    """Weight of the maximum mean discrepancy."""
    adversarial_weight: AtLeast0 = 0.02
    """Weight of what the discriminator can tell."""
    discriminator_units: Count = 256
    """Width of its hidden layer."""
    sweep_reductions: Counts = (4, 8)
    """Reductions that --ablate tries as well (repeatable)."""


def low_resolution(student, reduction):
    """A student of the same start that sees 1 / reduction of the resolution.

    Args:
        student: functional or Sequential classifier whose weights do not depend on the size of its
            images: convolutions, and global pooling before the classifier.
        reduction: 1 gives the student itself.

    Returns:
        `keras.Model` of the student's inputs; its layer of the student's name takes small images.

    Raises:
        SettingsError: a reduction that does not divide height and width, or a student that cannot
            be built for small images.
    """
    import keras

    if reduction == 1:
        return student
    height, width, channels = student.input_shape[1:]
    if height % reduction or width % reduction:
        fitting = [n for n in range(2, 17) if not (height % n or width % n)]
        raise SettingsError(
            f"reduction is {reduction}, which does not divide images of {height} x {width}. Give "
            f"one of {', '.join(map(str, fitting)) or 'none'}, or another --image-size."
        )
    size = (height // reduction, width // reduction, channels)
    try:
        small = keras.models.clone_model(
            student,
            input_tensors=keras.tree.map_structure(lambda _: keras.Input(size), student.input),
        )
        small.set_weights(student.get_weights())
    except ValueError as error:
        raise SettingsError(
            f'The student "{student.name}" cannot be built for images of {size[0]} x {size[1]}: '
            f"{error} Give one with global pooling before its classifier, such as resnet, or a "
            "smaller reduction."
        ) from error
    image = keras.Input(student.input_shape[1:], name="image")
    reduced = keras.layers.AveragePooling2D(reduction, name=REDUCED)(image)
    return keras.Model(image, small(reduced), name=f"{student.name}_{REDUCED}")


def small_images(student):
    """The network of a trained student that takes small images; shares its weights."""
    return student.layers[-1] if REDUCED in [own.name for own in student.layers] else student


def build(settings, teacher, student):
    """Labels and logits; features alike in pairs, in distribution and to a discriminator."""
    network = low_resolution(student, settings.reduction)
    inner = small_images(network)
    prefix = "" if inner is network else f"{inner.name}/"
    features = [
        tfkd.models.features_layer(teacher),
        prefix + tfkd.models.features_layer(inner),
    ]
    terms = [
        (tfkd.losses.LogitsDistillation(settings.temperature), settings.logits_weight),
        (tfkd.losses.SimilarityPreserving(*features), settings.pair_weight),
        (tfkd.losses.MaximumMeanDiscrepancy(*features), settings.discrepancy_weight),
        (
            tfkd.losses.AdversarialAlignment(settings.discriminator_units, *features),
            settings.adversarial_weight,
        ),
    ]
    terms = [(loss, weight) for loss, weight in terms if weight]
    losses, weights = ([term[side] for term in terms] for side in (0, 1))
    return System(network, losses, weights, settings.label_weight)


def ablations(settings):
    """Without the terms, one after the other, and all of it at other resolutions."""

    def at(reduction):
        own = settings.replace(reduction=reduction)
        logits = own.replace(pair_weight=0.0, discrepancy_weight=0.0, adversarial_weight=0.0)
        name = f"1/{reduction}"
        return {
            name: own,
            f"{name}, logits only": logits,
            f"{name}, labels only": logits.replace(logits_weight=0.0),
        }

    simple = settings.replace(pair_weight=0.0, discrepancy_weight=0.0)
    rows = at(settings.reduction)
    del rows[f"1/{settings.reduction}"]
    rows["no pairs, no discrepancy"] = simple
    for reduction in settings.sweep_reductions:
        rows |= at(reduction)
    return rows


RECIPE = Recipe(
    name="feng2021",
    paper="Feng et al., IEEE Transactions on Image Processing (2021)",
    task="classification of small images by a teacher that sees large ones",
    reconstruction="All formulas and numbers; from the abstract: the two resolutions, the "
    "discriminator, the pair-wise constraint and the maximum mean discrepancy.",
    settings=Feng2021,
    build=build,
    ablations=ablations,
)
