"""What `tfkd distill --loss` trains: each named method on the layers that it reads."""

import tfkd
from tfkd import published
from tfkd.recipes import base
from tfkd.settings import SettingsError, methods


def system(settings, teacher, student):
    """The `System` of the losses that settings name: the labels in full, each with its weight.

    Args:
        settings: `DistillSettings` with a `loss`.
        teacher, student: built models.

    Raises:
        SettingsError: a model without the stages or pooled features that a method reads.
    """
    losses, weights = [], []
    for name, weight in methods.parse(settings.loss).items():
        made = _losses(name, settings, teacher, student)
        losses += made
        weights += [weight] * len(made)
    return base.System(student, losses, weights, 1.0)


def _losses(name, settings, teacher, student):
    """The losses of one method; of one that compares every stage, one for each pair of them."""
    method = published.METHODS[name]
    kind = getattr(tfkd.losses, method.loss)
    if name == "annealed":
        return [kind(settings.softness, name=name)]
    if name == "kd":
        return [kind(settings.temperature or published.TEMPERATURE, name=name)]
    if name == "standardized":
        return [kind(2.0, standardize=True, name=name)]
    if method.reads in (published.LOGITS, published.LABELS, published.NO_TEACHER):
        return [kind(name=name)]
    if method.reads == published.POOLED:
        layers = (_pooled(name, side) for side in (teacher, student))
        return [kind(**_named(*layers), name=name)]
    pairs = _stages(name, teacher, student)
    if name == "review":
        taught, learnt = ([*side] for side in zip(*pairs, strict=True))
        return [kind(taught, learnt, name=name)]
    if method.reads == published.LAST:
        return [kind(**_named(*pairs[-1]), name=name)]
    return [kind(**_named(*pair), name=f"{name}{n}") for n, pair in enumerate(pairs, start=1)]


def _named(teacher_layer, student_layer):
    return {"teacher_layer_name": teacher_layer, "student_layer_name": student_layer}


def _stages(name, teacher, student):
    # From the deepest: there both have seen the whole image, however many stages came before.
    stages = [tfkd.models.stages(model)[::-1] for model in (teacher, student)]
    pairs = list(zip(*stages, strict=False))[::-1]
    if not pairs:
        raise SettingsError(
            f"loss: {name} compares the models' stages, but there are none to pair: the teacher "
            f"has {stages[0] or 'none'}, the student {stages[1] or 'none'}. Take a loss on logits."
        )
    return pairs


def _pooled(name, model):
    try:
        return tfkd.models.features_layer(model)
    except ValueError as error:
        raise SettingsError(f"loss: {name} compares pooled features. {error}") from None
