"""Hints of a run: the setting, the layers that it stands for, their losses."""

import tfkd
from tfkd.runs.settings import SettingsError

HELP = (
    '"auto" pairs the stage ends of both models, the deepest first; "none"; or '
    "TEACHER_LAYER:STUDENT_LAYER (repeatable)."
)


def checked(hints):
    """The `hints` setting as "auto", "none" or a tuple of "teacher_layer:student_layer".

    Raises:
        SettingsError: anything else.
    """
    if isinstance(hints, tuple) and len(hints) == 1 and hints[0] in ("auto", "none"):
        hints = hints[0]
    if isinstance(hints, str) and hints not in ("auto", "none"):
        hints = (hints,)
    if isinstance(hints, tuple):
        for pair in hints:
            parts = pair.split(":") if isinstance(pair, str) else []
            if len(parts) != 2 or not all(parts):
                raise SettingsError(
                    f'hints holds {pair!r}; expected "auto", "none", or pairs of layers written '
                    '"teacher_layer:student_layer".'
                )
        if not hints:
            raise SettingsError('hints is an empty list; write "none" for no hints.')
    return hints


def pairs(hints, teacher, student):
    """The layers that hints compare: list of (teacher layer, student layer), shallow to deep."""
    if hints == "none":
        return []
    if hints != "auto":
        return [tuple(pair.split(":")) for pair in hints]
    stages = [tfkd.models.stages(model)[::-1] for model in (teacher, student)]
    # From the deepest: there both have seen the whole image, however many stages came before.
    return list(zip(*stages, strict=False))[::-1]


def losses(pairs):
    """A normalised hint for each pair of layers, named hint1, hint2, ..."""
    return [
        tfkd.losses.FeatureDistillation("mse", taught, learnt, normalize=True, name=f"hint{number}")
        for number, (taught, learnt) in enumerate(pairs, start=1)
    ]
