"""Wulandari et al., JAHIR 2(2) (2024), doi 10.59247/jahir.v2i2.289: students compared that one
teacher distils, on images of lung and colon tissue.

From the paper (its abstract): a DenseNet169 teaches DenseNet121, MobileNet, ResNet50, InceptionV3
and Xception on 25,000 images, augmented from 750; some students match or beat the teacher, the best
is Xception with 96.95 %.

Reconstruction: temperature, weights and table are not known; students are distilled by the defaults
of `tfkd distill`, and the table has accuracy, cross-entropy, parameters and time. Of images that
are augmented before they are split, a random split puts relatives of a training image into the test
split: an accuracy there says little.

The defaults are a smoke run of small networks on `digits`. The paper's own networks are

    tfkd recipes run wulandari2024 --data ./tissue --image-size 128 --teacher DenseNet169 \\
        --student DenseNet121 --student MobileNet --student ResNet50 --student InceptionV3 \\
        --student Xception

and what `--ablate` adds. "DenseNet121 weights=imagenet" starts from ImageNet (transfer learning);
"DenseNet121 image_size=64" looks at smaller images than the teacher.
"""

import os

from tfkd.recipes.base import Recipe
from tfkd.settings.base import Count, Texts
from tfkd.settings.compare import CompareSettings
from tfkd.settings.training import Augmentation

TEACHER = "DenseNet169"
STUDENTS = ("DenseNet121", "MobileNet", "ResNet50", "InceptionV3", "Xception")


class Wulandari2024(CompareSettings):
    """Networks and budget of a smoke run."""

    augment: Augmentation = "flip"
    """Augmentation."""
    teacher: Texts = ("MobileNet alpha=0.5",)
    """One teacher for all data sets, or one for each in their order: "NAME OPTION=VALUE", .keras
    files or package.module:function (repeatable)."""
    student: Texts = ("MobileNet alpha=0.25", "MobileNetV2 alpha=0.35")
    """Students, "NAME OPTION=VALUE" (repeatable)."""
    epochs: Count = 5
    """Epochs of each student."""
    teacher_epochs: Count = 5
    """Epochs of a teacher that is trained."""

    def default_out(self):
        return os.path.join("saved_models", "wulandari2024")


def ablations(settings):
    """The paper's own comparison."""
    return {"the paper's networks": settings.replace(teacher=(TEACHER,), student=STUDENTS)}


RECIPE = Recipe(
    name="wulandari2024",
    paper="Wulandari et al., JAHIR 2(2) (2024)",
    task="one teacher, many students (tissue images)",
    reconstruction="Temperature, weights and budget; the networks are the paper's, and those of "
    "the defaults are smaller.",
    settings=Wulandari2024,
    build=None,
    ablations=ablations,
)
