"""Wang et al., "HEAD: HEtero-Assists Distillation for Heterogeneous Object Detectors", ECCV 2022,
arXiv 2207.05345.

From the paper and its code (github.com/LutingWang/HEAD): the student is a RetinaNet, the teacher a
Faster R-CNN. A RoI head whose weights are copied from the teacher's is put on the student's pyramid
and fed with the student's own proposals and the labels' boxes; it assists while the student trains.
"AKD" brings its two hidden layers, each behind a linear layer, to the teacher's on the same boxes;
"CKD" brings the class tower's features at the position that a proposal comes from, behind a linear
layer, to the teacher's second hidden layer on that box. All three are squared errors of weight 2,
warmed up over 2,000 iterations of about 88,000. Nothing but the RetinaNet is left at the end.
Without a trained teacher ("TF-HEAD") there is the assistant alone; the code of that was never
released.

    L = L_detection(y, student) + assist_weight · L_detection(y, assistant) + warm-up ·
        (hidden_weight · Σ over k = 1, 2 of |A_k a_k - t_k|² + cross_weight · |C s - t_2|²)

Ours: the squared errors are divided by the mean square of the teacher's layer (`normalized`), so
that their weights do not depend on how large these layers are, which no weight decay and no
pretraining holds down in a small teacher. Of the weights 0.02, 0.1, 0.5 and 2 the paper's own, 2,
was best on the validation split (docs/recipes/wang2022.md); the row "the paper's weights" has it
without the division. What makes it small is ours, too: the networks, anchors of one shape in two
scales, Adam for the paper's SGD (with gradients clipped at a norm of 20), 48 proposals for 512
regions drawn from 1,000. Classes are independent of each other in the teacher's second stage, where
the paper's is a softmax with a class for the ground.

Plain distillation from a two-stage teacher cannot compare outputs, which are of other boxes: its
row has hints, the squared error of every map of the pyramid (FitNets, which the paper compares
with, too, behind 1 x 1 convolutions), divided by the variance of the teacher's map. Their weight
was chosen in the same way, of 0.05, 0.2 and 1.
"""

from typing import ClassVar

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import AtLeast0, Count, SettingsError, Share, options
from tfkd.settings.detection import DetectionSettings

MAPS = ("P2", "P3", "P4")
PAPERS_WEIGHT = 2.0  # of each distance, which is not normalized there


class Wang2022(DetectionSettings):
    """The paper's weights and warm-up; networks and budget are ours."""

    recipe: ClassVar = "wang2022"

    data: str = "cells"
    """"cells" (built in), or a TFDS name of images with boxes, such as bccd."""
    teacher: str = "two_stage"
    """Detector to train as teacher, of two stages; or its .keras file."""
    teacher_options: options("--teacher-option", width=2.0, channels=32)
    """Of the teacher's model, such as width=1.5 (repeatable)."""
    student: str = "retinanet"
    """Detector to train as student; with the teacher's channels."""
    student_options: options("--student-option", width=0.25, channels=32)
    """Of the student's model, such as width=0.5 (repeatable)."""
    batch_size: Count = 8
    """Images a batch."""
    assist_weight: AtLeast0 = 1.0
    """Weight of the assistant's own loss on the labels."""
    hidden_weight: AtLeast0 = 2.0
    """Weight of the teacher's hidden layers for the assistant's (AKD)."""
    cross_weight: AtLeast0 = 2.0
    """Weight of the teacher's second hidden layer for the dense head (CKD)."""
    warm_up: Share = 0.0227
    """Share of the training in which these two weights rise."""
    normalized: bool = True
    """Divide the squared errors by the mean square of the teacher's layer; the paper does not."""
    hint_weight: AtLeast0 = 0.05
    """Of the row "distilled": weight of the hint of each map of the pyramid."""
    proposals: Count = 48
    """The student's proposals that the assistant looks at."""
    teacher_free: bool = False
    """Assistant only, begun at random; the weights of the teacher must be 0."""

    def check(self):
        super().check()
        if self.teacher_free and (self.hidden_weight or self.cross_weight):
            raise SettingsError(
                "teacher_free leaves nothing to learn from a teacher: give hidden_weight 0 and "
                f"cross_weight 0 (they are {self.hidden_weight:g} and {self.cross_weight:g})."
            )


def build(settings, teacher, student):
    """The student with the teacher's head beside it."""
    classes, _ = tfkd.models.detector_layout(student)
    loss = tfkd.losses.HeadAssistance(
        _head(settings, teacher, student),
        classes,
        assist_weight=settings.assist_weight,
        hidden_weight=settings.hidden_weight,
        cross_weight=settings.cross_weight,
        warm_up=settings.warm_up,
        normalized=settings.normalized,
        proposals=settings.proposals,
        teacher_free=settings.teacher_free,
    )
    return System(student, [loss], [1.0], 1.0)


def _head(settings, teacher, student):
    """The teacher's head, or without a teacher one like it, at random."""
    if settings.teacher_free:
        channels = student.get_layer(MAPS[0]).output.shape[-1]
        return tfkd.models.roi_head(channels, tfkd.models.detector_layout(student)[0])
    try:
        return teacher.get_layer("roi_head")
    except ValueError:
        raise ValueError(
            f'wang2022 copies the teacher\'s second stage, but "{teacher.name}" has none. Give a '
            "teacher of two stages, such as two_stage."
        ) from None


def hints(settings, teacher, student):
    """Plain distillation: the squared error of every map of the pyramid."""
    del teacher
    losses = [
        tfkd.losses.FeatureDistillation("mse", name, name, normalize=True, name=f"hint_{name}")
        for name in MAPS
    ]
    return System(student, losses, [settings.hint_weight] * len(MAPS), 1.0)


def ablations(settings):
    alone = {"hidden_weight": 0.0, "cross_weight": 0.0}
    return {
        "assistant only": settings.replace(**alone),
        "without CKD": settings.replace(cross_weight=0.0),
        "without AKD": settings.replace(hidden_weight=0.0),
        "teacher-free": settings.replace(teacher_free=True, **alone),
        "the paper's weights": settings.replace(
            normalized=False, hidden_weight=PAPERS_WEIGHT, cross_weight=PAPERS_WEIGHT
        ),
    }


RECIPE = Recipe(
    name="wang2022",
    paper="Wang et al., ECCV 2022",
    task="detection by a dense student with the two-stage teacher's head as assistant",
    reconstruction="Networks, budget, optimizer and normalized distances are ours, and the form "
    "without a teacher, whose code was never released; weights and warm-up are the paper's.",
    settings=Wang2022,
    build=build,
    ablations=ablations,
    plain=hints,
)
