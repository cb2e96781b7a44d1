"""The members of an `Ensemble`: their names, and whether they fit each other."""

from collections.abc import Mapping

import keras
import tensorflow as tf

from tfkd.heads import Head


def named(members):
    """{name: teacher} of teachers as an `Ensemble` is given them."""
    if isinstance(members, Mapping):
        found = dict(members)
    elif isinstance(members, list | tuple):
        found = {str(number): member for number, member in enumerate(members)}
    else:
        raise ValueError(
            "An Ensemble takes a list of teachers, or {name: teacher}; got "
            f"{type(members).__name__}."
        )
    if not found:
        raise ValueError("An Ensemble needs a teacher or more, but the list is empty.")
    for name in found:
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(
                f'Members of an Ensemble are called by texts without "/", got {name!r}: their '
                'layers are read as "name/layer".'
            )
    return found


def shared_outputs(members):
    """Names of the outputs that all members give."""
    first, *others = [member.output_names for member in members.values()]
    return [name for name in first if all(name in other for other in others)]


def shared_head(members, output):
    """What the members say of an output; ValueError where they do not say the same."""
    heads = {name: member.heads.get(output, Head()) for name, member in members.items()}
    kinds = {head.kind for head in heads.values()}
    labels = {head.labels for head in heads.values()} - {None}
    if len(kinds) > 1 or len(labels) > 1:
        found = ", ".join(f'"{name}" {head.name or head}' for name, head in heads.items())
        raise ValueError(
            f'The "{output}" of an Ensemble\'s members means different things: {found}. Say what '
            "it is where that was not found out: tfkd.teachers.LiveTeacher(model, head="
            '"probabilities") or CallableTeacher(function, head=...) as member.'
        )
    return Head(kinds.pop(), labels.pop() if labels else None)


def shared_signature(signatures):
    """The structure of `tf.TensorSpec` that all members take.

    Args:
        signatures: {name: such a structure}.

    Raises:
        ValueError: they take different inputs.
    """
    merged = next(iter(signatures.values()), None)
    for name, own in signatures.items():
        try:
            merged = keras.tree.map_structure(_merged, merged, own)
        except (ValueError, TypeError):
            shapes = {
                one: keras.tree.map_structure(lambda spec: tuple(spec.shape), signature)
                for one, signature in signatures.items()
            }
            raise ValueError(
                "The members of an Ensemble are given the same inputs, but take different ones: "
                f"{_listed(shapes)}. Put a keras.layers.Resizing (or another layer that maps the "
                f'data to what the member takes) in front of "{name}".'
            ) from None
    return merged


def check(members, shapes, weights):
    """Raises ValueError unless the members give outputs of one shape each, some in common.

    Args:
        members: {name: source}.
        shapes: {name: {tensor: shape with batch}} of what each gives.
        weights: of the ensemble, as `weighing.checked` gave them.
    """
    outputs = shared_outputs(members)
    if not outputs:
        found = {name: tuple(member.output_names) for name, member in members.items()}
        raise ValueError(
            f"The members of an Ensemble have no output in common: {_listed(found)}. Give models "
            "with the same outputs."
        )
    for output in outputs:
        found = {name: tuple(own[output]) for name, own in shapes.items() if output in own}
        if len(found) < len(shapes):
            given = {name: tuple(own) for name, own in shapes.items()}
            raise ValueError(f'Not all members of the Ensemble gave "{output}": {_listed(given)}.')
        if len({shape[1:] for shape in found.values()}) > 1:
            raise ValueError(
                f'The members of an Ensemble give "{output}" in different shapes: '
                f"{_listed(found)}. All must know the same classes, in the same order."
            )
        shape, head = next(iter(found.values())), shared_head(members, output)
        one_of_many = len(shape) == 2 and shape[-1] > 1 and head.kind != "numbers"
        if isinstance(weights, str) and not (one_of_many and head.labels != "independent"):
            raise ValueError(
                f'weights="{weights}" compares members by what they say of one class of many, but '
                f'"{output}" has the shape {shape} and holds {head.name}. Give a number for each '
                "member, or leave weights out."
            )


def _merged(first, second):
    return tf.TensorSpec(tf.TensorShape(first.shape).merge_with(second.shape), first.dtype)


def _listed(found):
    return ", ".join(f'"{name}" {own}' for name, own in found.items())
