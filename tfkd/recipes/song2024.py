"""Song et al., HMKD-Net, IET Cyber-Systems and Robotics (2024), doi 10.1049/csy2.12120.

From the abstract: an ensemble of a CNN and a Vision Transformer teaches a CNN; images of remote
sensing are few, which limits distillation across architectures; a "simple method to handle
variances during the KD phase"; three data sets of remote sensing, up to 22.8 % ahead of other
methods, with 80 % less time for distillation.

Reconstruction: formulas, networks, data sets, weights, temperature and the simple method itself are
not told there. As read here,

    L = (1 - distill_weight) · CE(y, s) + distill_weight · sum_m w_m T² KL(t_m || s)

over the teachers m, whose weights sum to 1 (`--teacher-weights`: alike unless told), with the
gradient of one teacher of the mean of their softened probabilities. Variance is taken out of the
targets: teachers and student see the same view of an image; each teacher's target is the mean over
all eight turns and mirror images of that view (`target_views`), as a scene seen from above has no
upper side; the student's augmentation is mild (mirror images); and all of it is asked once and
stored. `--cache-gb 0` asks the teachers live, for the time.

The default networks are small ones of tfkd; the teachers are trained first. `--teacher cnn.keras
--teacher vit.keras` takes yours.
"""

from typing import ClassVar, Literal

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, Count, Share
from tfkd.settings.distill import plain
from tfkd.settings.recipe import RecipeSettings
from tfkd.settings.training import Augmentation, Teachers

ALL, ONE = "all", "one"


class Song2024(RecipeSettings):
    """A CNN and a ViT as teachers, as in the paper; networks, temperature and weights are ours."""

    recipe: ClassVar = "song2024"

    teacher: Teachers = ("resnet depth=14 width=0.5", "vit width=0.5")
    """Models to train as teachers, or trained ones (repeatable), each "NAME OPTION=VALUE"."""
    augment: Augmentation = "flip"
    """Augmentation of the students' images, and of the teachers' while they are trained."""
    views: Count | None = 4
    """Augmented versions of each image, in turns."""
    temperature: Above0 = 4.0
    """Softens all models' logits."""
    distill_weight: Share = 0.7
    """Weight of the distilled logits; labels have the rest of 1."""
    target_views: Literal["all", "one"] = ALL
    """What a teacher is asked of an image: the mean over all turns and mirror images, or one."""


def build(settings, teacher, student):
    """Labels, and each teacher's softened logits, averaged over the views of the image."""
    loss = tfkd.losses.LogitsDistillation(settings.temperature)
    system = System(student, [loss], [settings.distill_weight], 1.0 - settings.distill_weight)
    if settings.target_views == ONE:
        return system
    members = tfkd.models.ensemble_members(teacher) or {"teacher": teacher}
    averaged = {n: tfkd.models.averaged_over_views(own, n) for n, own in members.items()}
    source = tfkd.teachers.Ensemble(averaged, settings.weights_of_teachers())
    return system._replace(source=source, source_name="mean over all views")


def ablations(settings):
    """Each teacher alone; targets of one view; teachers weighed by their confidence."""
    several = settings.each_teacher() if settings.several_teachers else []
    alone = {f"{plain(own.teacher)} alone": own for own in several}
    weighed = {"weighed by confidence": {"teacher_weights": "confidence"}} if several else {}
    others = {"targets of one view": {"target_views": ONE}} | weighed
    return alone | {name: settings.replace(**changes) for name, changes in others.items()}


RECIPE = Recipe(
    name="song2024",
    paper="Song et al., IET Cyber-Systems and Robotics (2024)",
    task="remote sensing: a CNN and a ViT teach a CNN",
    reconstruction="Networks, temperature and weights, and what handles variance: targets averaged "
    "over all turns and mirror images, stored once; the teachers' kinds are the paper's.",
    settings=Song2024,
    build=build,
    ablations=ablations,
)
