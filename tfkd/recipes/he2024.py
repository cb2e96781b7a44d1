"""He et al., "Bit-mask Robust Contrastive Knowledge Distillation for Unsupervised Semantic Hashing"
(BRCD), WWW 2024, arXiv:2403.06071; code: github.com/hly1998/BRCD.

From the paper's abstract and the authors' code: images get codes of 64 bits, learnt without labels;
a bit is the sign of sigmoid(f) - 1/2, its gradient passed straight through. The teacher, a frozen
ViT-B/16 and a linear layer, is trained by CIBHash (`tfkd.losses.ContrastiveHashing`: temperature
0.3, weight 0.001 on the divergence); so is the student, a frozen EfficientNet-B0 and two layers. To
the student's own loss BRCD adds, with weight 1, the contrast of its codes with the teacher's
(`tfkd.losses.RobustCodeDistillation`): positives are the teacher's code of the same view (0.8) and,
masked, that of the other view (0.2); k-means of the teacher's codes (10 clusters, 30 starts)
removes negatives of the same cluster, and positives whose other view fell into another one; the bit
mask's margin is 0.5; batches of 64 images. Adam at 0.001, at most 400 epochs, of which validation
keeps the best. Both searches are judged by mAP@1000, the "mAP@1000" here.

Reconstruction: the sign of the mask. "Redundant" bits are to be masked; the released mask is all
zeros, as the script that makes it keeps neither side of the margin, so that it does not tell. Here
a cluster keeps the bits that it decides (mean above the margin); `mask` takes the opposite, or
none. In the released code masked codes also choose the cluster of the other view, which zeros make
the same for all images; here the whole code does. The ablation that keeps false negatives is not
in it: there positives and negatives are removed together, or negatives alone.

Ours: networks, budget and data. Small networks are trained in whole, at 0.003 along a cosine, as
everything here; `--teacher backbone --teacher-option file=PATH.keras` trains the teacher's bits on
the frozen features of a classifier of yours, as the paper does. An epoch shows two versions of each
image, and the same versions to every row and seed, so that the teacher is asked about each once.
What is searched are the training images, where the paper searches all of CIFAR-10's 50,000 and
trains on 5,000 of them; the first figure, which judges, is of the whole ranking.
"""

import statistics
from typing import Annotated, ClassVar, Literal

from cyclopts import Parameter

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0, Count, SettingsError, Share, options
from tfkd.settings.recipe import RecipeSettings
from tfkd.settings.training import Augmentation


class He2024(RecipeSettings):
    """Code length, weights, temperature, clusters, margin and batches are the paper's."""

    recipe: ClassVar = "he2024"
    learns: ClassVar = "hashing"

    teacher_options: options("--teacher-option", depth=8, width=0.5)
    """Of the teacher's model, such as depth=32 (repeatable)."""
    student_options: options("--student-option", width=0.1)
    """Of the student's model, such as width=0.25 (repeatable)."""
    augment: Augmentation = "contrastive"
    """How the two views of an image are made."""
    mirror: bool = False
    """Mirror contrastive views, too: photos, not digits or text."""
    bits: Count = 64
    """Bits of a code."""
    temperature: Above0 = 0.3
    """Divides all cosines."""
    divergence_weight: AtLeast0 = 0.001
    """Weight of the divergence of the two views' bits."""
    distill_weight: Above0 = 1.0
    """Weight of what the teacher teaches; the student's own contrast has 1."""
    same_view_share: Share = 0.8
    """Share of the same view in the positive; the rest is that of the other view, masked."""
    clusters: Count = 10
    """Clusters of the teacher's codes."""
    mask: Literal["decided", "undecided", "none"] = "decided"
    """Bits that count: those that a cluster decides, the opposite, or all."""
    margin: Annotated[float, Parameter()] = 0.5
    """A cluster decides a bit where the size of its mean is above this."""
    false_negatives: bool = False
    """Keep images of the same cluster among the negatives."""
    offset_positives: bool = False
    """Keep views that fall into another cluster than their image among the positives."""

    def check(self):
        super().check()
        if self.augment == "none":
            raise SettingsError(
                'augment is "none", but codes are learnt from two different views of each image. '
                'Give "contrastive", or another augmentation.'
            )
        if self.mirror and self.augment != "contrastive":
            raise SettingsError(
                f'mirror is of augment = "contrastive", but augment is "{self.augment}". Give '
                '"flip" or "crop_flip" to mirror.'
            )
        if self.views == 1:
            raise SettingsError(
                "views is 1, but codes are learnt from two views of each image: give at least 2, "
                "or leave views out."
            )
        if not 0 <= self.margin < 1:
            raise SettingsError(
                f"margin is {self.margin}; it should be at least 0 and below 1, as means of bits "
                "lie between -1 and 1."
            )
        idle = {"label_smoothing": self.label_smoothing, "class_weight": self.class_weight}
        idle = [name for name, value in idle.items() if value not in (0.0, "none")]
        if idle:
            raise SettingsError(
                f"{' and '.join(idle)} would change nothing: codes are learnt without labels."
            )
        if self.several_teachers:
            raise SettingsError(
                f"Clusters are of one teacher's codes, but there are {len(self.teacher)} teachers."
            )

    @property
    def augmentation(self):
        if self.augment == "contrastive":
            return self.augment, {"mirror": self.mirror}
        return self.augment, {}


def build(settings, teacher, student):
    """The student's own contrast, and the robust contrast with the teacher's codes."""
    from tfkd.tasks import codes

    found = codes.clusters_of_teacher(settings, teacher)
    masks = None if settings.mask == "none" else found.masks(settings.margin, settings.mask)
    loss = tfkd.losses.RobustCodeDistillation(
        found.numbers,
        found.centers,
        masks,
        settings.same_view_share,
        settings.temperature,
        settings.false_negatives,
        settings.offset_positives,
    )
    return System(student, [loss], [settings.distill_weight], 1.0)


def plain(settings, teacher, student):
    """The student's own contrast, and the cosine of its codes with the teacher's.

    The cosine is divided by the temperature, as all cosines of the contrasts are: with less weight
    it is lost beside them.
    """
    del teacher
    weight = settings.distill_weight / settings.temperature
    return System(student, [tfkd.losses.CodeDistillation()], [weight], 1.0)


def ablations(settings):
    """Without each part of the paper, and with the mask's opposite."""
    contrast = {"mask": "none", "false_negatives": True, "offset_positives": True}
    return {
        "no mask": settings.replace(mask="none"),
        "undecided bits": settings.replace(mask="undecided"),
        "false negatives kept": settings.replace(false_negatives=True),
        "offset positives kept": settings.replace(offset_positives=True),
        "contrast alone": settings.replace(**contrast),
    }


def study(finished):
    """The asymmetric search, each student's codes of the queries among the teacher's codes; and how
    many bits the mask keeps."""
    import keras

    from tfkd.tasks import codes

    record, splits = finished.record, finished.splits[0]
    path = finished.directory / record.teachers[0].file
    teacher = keras.saving.load_model(path, compile=False)
    database = codes.predicted(teacher, splits.train)
    figures = {"asymmetric_map": {}, "asymmetric_map_1000": {}}
    for row in record.rows:
        for seed in record.seeds:
            path = finished.directory.model_path(f"{seed}/{row.file}")
            student = keras.saving.load_model(path, compile=False)
            found = codes.asymmetric_search(student, splits.test, *database)
            for name, value in found.items():
                figures[f"asymmetric_{name}"].setdefault(row.name, []).append(value)
    own = next(row.settings for row in finished.rows if row.name == RECIPE.name)
    kept, told = _bits_kept(own, tfkd.losses.code_clusters(database[0], own.clusters))
    return figures | {"bits_kept": kept}, [_searches(figures["asymmetric_map"]), *told]


def _searches(figures):
    told = []
    for row, found in figures.items():
        spread = f" ± {100 * statistics.stdev(found):.1f}" if len(found) > 1 else ""
        told.append(f"{row} {100 * statistics.fmean(found):.1f}{spread}")
    return (
        "Asymmetric search, the student's codes of test images among the teacher's codes of the "
        f"training images: mAP (%) {', '.join(told)}."
    )


def _bits_kept(settings, found):
    """(bits that the mask keeps of each cluster, a sentence on them)."""
    if settings.mask == "none":
        return [], []
    kept = found.masks(settings.margin, settings.mask).sum(axis=1)
    mean = kept[found.numbers].mean()
    told = (
        f"Of {settings.bits} bits the mask keeps {mean:.1f} in the mean of the training images, "
        f"{kept.min():.0f} to {kept.max():.0f} in the {len(kept)} clusters of the teacher's codes."
    )
    return kept.tolist(), [told]


RECIPE = Recipe(
    name="he2024",
    paper="He et al. (BRCD), WWW 2024",
    task="unsupervised hashing: codes of 64 bits for image search",
    reconstruction="Which side of the margin the bit mask keeps (the released one is all zeros); "
    "networks and budget. Losses, clusters, weights, temperature: those of the authors' code.",
    settings=He2024,
    build=build,
    ablations=ablations,
    study=study,
    plain=plain,
)
