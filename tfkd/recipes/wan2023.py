"""Wan et al., "Dual knowledge distillation for neural machine translation", Computer Speech &
Language (2024), doi 10.1016/j.csl.2023.101583.

From the paper (its abstract): on monolingual text the encoder distils itself into a consistent
representation; on bilingual text a consistency of the decoder with itself regularises what is
learnt by kNN knowledge distillation.

Reconstruction, everything else. Every sentence goes through dropout twice, and both passes count:

    L = label_weight · mean over both passes of the CE with labels smoothed by nearest neighbours
      + encoder_weight · mean (1 - cosine of the encoder's features of one pass and of the other)
      + decoder_weight · ½ (KL(p1 || p2) + KL(p2 || p1))

The first term is `tfkd.losses.NeighborDistillation`: a share of the label goes to what followed the
nearest of the teacher's decoder features. kNN-KD (Yang et al. 2022, and its authors' code) searches
all training words once, before, for 64 neighbours, the word itself among them, at temperature 100
and width 512, and gives them as much weight as the label. Ours are those of the last `memory` words
that training has seen, hence fewer neighbours and a smaller share.

The second term is read on all source sentences, also those that have no translation. It compares
directions: a squared error is made small by small features, which says nothing of their agreement.
The third is R-Drop (Liang et al. 2021) with the other pass held; its weight of 5 on the sum over
both passes' labels would be 2.5 here. Ours is light: see the recipe's page for what more costs.
Teacher and student are small transformers over words, and the paper's data is larger.
"""

from typing import Annotated, ClassVar

from pydantic import Field

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0, Count, SettingsError
from tfkd.settings.text import TranslationSettings

PASSES = ("output", "again")


class Wan2023(TranslationSettings):
    """The paper's numbers were not read; these are ours."""

    recipe: ClassVar = "wan2023"

    label_weight: AtLeast0 = 1.0
    """Weight of the smoothed labels."""
    encoder_weight: AtLeast0 = 0.1
    """Weight of the encoder's consistency."""
    decoder_weight: AtLeast0 = 0.1
    """Weight of the decoder's consistency."""
    neighbors: Annotated[int, Field(ge=0)] = 8
    """Nearest features that smooth a label; 0 leaves it as it is."""
    neighbor_share: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the neighbours in a label."""
    neighbor_temperature: Above0 = 10.0
    """The larger, the more alike the neighbours count."""
    memory: Count = 4096
    """Words that are remembered; fewer than an epoch has."""

    def check(self):
        super().check()
        if self.label_smoothing and self.neighbors:
            raise SettingsError(
                f"label_smoothing ({self.label_smoothing:g}) and neighbors ({self.neighbors}) both "
                "smooth the labels. Give one of them."
            )


def build(settings, teacher, student):
    """Two passes: smoothed labels for both, and consistency of encoder and decoder."""
    losses, weights = [], []
    share = settings.neighbor_share if settings.neighbors else 0.0
    labels = dict.fromkeys(PASSES, (1 - share) * settings.label_weight / 2)
    if share:
        losses.append(
            tfkd.losses.NeighborDistillation(
                "decoder/features",
                PASSES,
                settings.neighbors,
                settings.memory,
                settings.neighbor_temperature,
                share=1.0,
                padding=0,
            )
        )
        weights.append(share * settings.label_weight)
    if settings.encoder_weight:
        own = tfkd.losses.FeatureDistillation("cosine_similarity", "encoded_again", "encoded")
        losses.append(tfkd.losses.SelfDistillation(own, name="encoder_consistency"))
        weights.append(settings.encoder_weight)
    if settings.decoder_weight:
        losses.append(tfkd.losses.ConsistencyDistillation(PASSES, name="decoder_consistency"))
        weights.append(settings.decoder_weight)
    return System(tfkd.models.two_passes(student), losses, weights, labels)


def plain(settings, teacher, student):
    """Labels and the teacher's distributions, word by word (Kim and Rush 2016)."""
    return System(student, [tfkd.losses.LogitsDistillation(1.0)], [0.5], 0.5)


def ablations(settings):
    """Without each of the parts."""
    return {
        "without encoder consistency": settings.replace(encoder_weight=0.0),
        "without decoder consistency": settings.replace(decoder_weight=0.0),
        "without neighbours": settings.replace(neighbors=0),
    }


def deployed(student):
    """One pass of the two."""
    return {"": tfkd.models.one_pass(student)}


RECIPE = Recipe(
    name="wan2023",
    paper="Wan et al., Computer Speech & Language (2024)",
    task="machine translation: consistent encoder and decoder, labels smoothed by neighbours",
    reconstruction="Losses, weights and models; from the abstract: self-distilled consistency of "
    "the encoder on monolingual text and of the decoder on top of kNN-KD.",
    settings=Wan2023,
    build=build,
    ablations=ablations,
    deployed=deployed,
    plain=plain,
)
