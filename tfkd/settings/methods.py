"""The losses that `tfkd distill --loss` takes: their names and weights; no TensorFlow."""

import math

from tfkd.published import LABELS, LOGITS, METHODS, NO_TEACHER
from tfkd.settings.base import SettingsError, near

# Settings that a named loss takes: setting → loss.
READ_BY = {"temperature": "kd", "softness": "annealed"}


def parse(texts):
    """{name: weight} of texts "name" or "name:weight".

    Raises:
        SettingsError: an unknown name, one given twice or for programs only, or no weight.
    """
    found = {}
    for text in texts:
        name, colon, number = text.partition(":")
        if name not in METHODS:
            raise SettingsError(f'loss: no "{name}". {near(name, METHODS)}')
        method = METHODS[name]
        if method.how != "--loss":
            raise SettingsError(
                f"loss: {name} is for programs, as it needs more than a loss: {method.how}, see "
                "docs/methods.md."
            )
        if name in found:
            raise SettingsError(f"loss names {name} twice.")
        try:
            weight = float(number) if colon else method.weight
        except ValueError:
            weight = math.nan
        if not (0 < weight < math.inf):
            raise SettingsError(
                f'loss holds "{text}"; expected NAME or NAME:WEIGHT with a weight greater than 0, '
                "such as review:0.6."
            )
        found[name] = weight
    return found


def check(settings, others):
    """Raises SettingsError where a loss is unknown, or settings beside `loss` change nothing.

    Args:
        settings: `DistillSettings` with a `loss`.
        others: names of the settings of the losses that `loss` stands in the place of.
    """
    names = parse(settings.loss)
    if settings.recipe is not None:
        raise SettingsError(
            f'loss and recipe "{settings.recipe}" both say what is distilled. Give one of them.'
        )
    layers = [n for n in names if METHODS[n].reads not in (LOGITS, LABELS, NO_TEACHER)]
    if layers and settings.several_teachers:
        raise SettingsError(
            f"loss names {' and '.join(layers)}, which read the layers of one teacher, but there "
            f"are {len(settings.teacher)}. Give methods on the logits, see tfkd losses."
        )
    used = {name for name, loss in READ_BY.items() if loss in names}
    idle = [name for name in others if name in settings.given() and name not in used]
    if idle:
        raise SettingsError(
            f"{' and '.join(idle)} would change nothing: with loss, what is trained is the "
            "cross-entropy of the labels plus each loss times its weight, as papers write it. Give "
            "weights as NAME:WEIGHT; temperature is that of kd, softness that of annealed."
        )
