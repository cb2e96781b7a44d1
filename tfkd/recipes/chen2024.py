"""Chen Cheng, Ding and Duan, "Discretization and decoupled knowledge distillation for arbitrary-
oriented object detection" (DPKD), Digital Signal Processing (2024), 104512.

From the paper (its abstract): three modules. Discretization: the sides of a box as general
probability distributions, its angle through a cross-Gaussian distribution. Position distillation:
target and non-target boxes as separate terms, to transfer knowledge of the background. Region
weighting: the teacher's boxes are weighed by EIoU. Measured on DOTA and HRSID.

Reconstruction, everything else: no formula, weight or network is public, and no code was found.
Teacher and student are dense detectors of one shape (`distribution_detector`), whose sides are
distributions as in "Generalized Focal Loss" and whose angle is one over half a turn, learnt from a
Gaussian that goes around. With t for the teacher, s for the student, at positions p:

    L = L_detection(y, s) + target_weight · mean over targets of (q_p · D_p)
                          + other_weight · mean over the others of (q_p · D_p)

D_p is T² KL(t || s) of the classes and of each distribution, q_p how good the teacher's box is
(`tfkd.losses.BoxDistillation` says all of it). EIoU's formula is recollected from its own paper.
T = 1 is ours: on the validation images of turned shapes T = 2 was behind it.

Plain distillation, the row to compare with, is the mean of D_p over all positions.
"""

from typing import ClassVar

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0, Count, options
from tfkd.settings.detection import DetectionSettings


class Chen2024(DetectionSettings):
    """The paper's numbers are not public; these are ours."""

    recipe: ClassVar = "chen2024"

    data: str = "rotated_shapes"
    """"rotated_shapes" or "cells" (built in), "rotated_shapes/rsscn7" (over real textures), or a
    TFDS name of images with boxes, such as bccd."""
    teacher: str = "distribution_detector"
    """Detector to train as teacher; or its .keras file."""
    teacher_options: options("--teacher-option", width=2.0, channels=48)
    """Of the teacher's model, such as width=1.5 (repeatable)."""
    epochs: Count = 6
    """Epochs of each student."""
    teacher_epochs: Count = 10
    """Epochs of a teacher that is trained."""
    student: str = "distribution_detector"
    """Detector to train as student."""
    student_options: options("--student-option", width=0.5, channels=16)
    """Of the student's model, such as width=0.25 (repeatable)."""
    temperature: Above0 = 1.0
    """Softens classes and distributions."""
    target_weight: AtLeast0 = 1.0
    """Weight of the positions that are to find an object."""
    other_weight: AtLeast0 = 1.0
    """Weight of all others."""
    classes_weight: AtLeast0 = 1.0
    """Weight of the classes within both."""
    boxes_weight: AtLeast0 = 1.0
    """Weight of the distributions within both."""
    decoupled: bool = True
    """Two means; else one over all positions."""
    weighted: bool = True
    """Weigh positions by the EIoU of the teacher's boxes."""


def build(settings, teacher, student):
    """Labels, and the teacher's classes and distributions."""
    return _system(settings, student, settings.decoupled, settings.weighted)


def plain(settings, teacher, student):
    """The same without the paper's parts: the mean over all positions."""
    return _system(settings, student, False, False)


def _system(settings, student, decoupled, weighted):
    classes, angle_bins = tfkd.models.detector_layout(student)
    names = ("temperature", "target_weight", "other_weight")
    loss = tfkd.losses.BoxDistillation(
        classes,
        angle_bins,
        **{name: getattr(settings, name) for name in names},
        class_weight=settings.classes_weight,
        box_weight=settings.boxes_weight,
        decoupled=decoupled,
        weighted=weighted,
    )
    return System(student, [loss], [1.0], 1.0)


def ablations(settings):
    return {
        "one term": settings.replace(decoupled=False),
        "without EIoU": settings.replace(weighted=False),
        "targets only": settings.replace(other_weight=0.0),
    }


RECIPE = Recipe(
    name="chen2024",
    paper="Chen Cheng, Ding and Duan, Digital Signal Processing (2024)",
    task="detection of turned boxes whose sides and angle are distributions",
    reconstruction="All formulas, weights and networks; from the abstract: sides and angle as "
    "distributions, targets and others as separate terms, weights by EIoU.",
    settings=Chen2024,
    build=build,
    ablations=ablations,
    plain=plain,
)
