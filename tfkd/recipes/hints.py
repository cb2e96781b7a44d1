"""Hints: which layers of teacher and student are compared, and by which losses."""

import tfkd
from tfkd.settings.distill import AUTO, NONE


def pairs(hints, teacher, student):
    """The layers that hints compare: list of (teacher layer, student layer), shallow to deep.

    Args:
        hints: `AUTO`, `NONE`, or texts "teacher_layer:student_layer".
        teacher, student: built models.
    """
    if hints == NONE:
        return []
    if hints != AUTO:
        return [tuple(pair.split(":")) for pair in hints]
    stages = [tfkd.models.stages(model)[::-1] for model in (teacher, student)]
    # From the deepest: there both have seen the whole image, however many stages came before.
    return list(zip(*stages, strict=False))[::-1]


def losses(pairs, blur=0.0):
    """A normalised hint for each pair of layers, named hint1, hint2, ...

    Args:
        pairs: list of (teacher layer, student layer).
        blur: of the teacher's maps, see `tfkd.losses.FeatureDistillation`.
    """
    return [
        tfkd.losses.FeatureDistillation(
            "mse", teacher, student, normalize=True, name=f"hint{n}", blur=blur
        )
        for n, (teacher, student) in enumerate(pairs, start=1)
    ]
