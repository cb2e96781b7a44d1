"""Students that learn together as one model: deep mutual learning (Zhang et al. 2018,
arXiv:1706.00384)."""

import keras

from tfkd.models import forks


def cohort(*students):
    """Several students as one model, which train together and teach each other.

    ```python
    peers = tfkd.models.cohort(first, second)
    loss = tfkd.losses.MutualDistillation(tfkd.models.exit_names(peers))
    distiller = tfkd.Distiller(
        None, peers, loss, student_loss_weight=1.0, independent_weights=True
    )
    distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    distiller.fit(train, validation_data=validation)
    tfkd.models.members(peers)["output"].save("student.keras")
    ```

    Nothing is shared but the input. Losses between outputs let no gradient into the one that
    teaches, so that one optimizer trains each student as one of its own would, as long as it treats
    every weight by itself (SGD, Adam) and gradients are not clipped by their common norm.

    Args:
        *students: functional or Sequential classifiers of one output, on the same input and with
            the same classes. They stay as they are: the result starts from copies of their weights.

    Returns:
        Functional `keras.Model` with outputs {"peer_1": the second student's, ..., "output": the
        first student's}, each (batch, classes). A cohort of one trains as its student does alone.

    Raises:
        TypeError, ValueError: no student, one that is no such classifier, or students that take
        other inputs or know other classes than the first.
    """
    if not students:
        raise ValueError("A cohort needs students: tfkd.models.cohort(first, second).")
    for student in students:
        forks.check_backbone(student, "cohorts")
        _check_alike(students[0], student)
    names = [forks.OUTPUT, *(f"peer_{number}" for number in range(1, len(students)))]
    first = students[0].inputs[0]
    given = keras.Input(batch_shape=first.shape, dtype=first.dtype, name=forks.made_by(first).name)
    outputs = {
        name: _copy(student, name)(given) for name, student in zip(names, students, strict=True)
    }
    in_order = {name: outputs[name] for name in [*names[1:], forks.OUTPUT]}
    return keras.Model(given, in_order, name="cohort")


def members(model):
    """The students of a cohort, which share its weights.

    Args:
        model: what `cohort` returned, or was loaded from its file.

    Returns:
        {output name: `keras.Model`}, "output" first.

    Raises:
        ValueError: no cohort.
    """
    outputs = getattr(model, "output", None)
    found = {
        name: forks.made_by(tensor)
        for name, tensor in (outputs.items() if isinstance(outputs, dict) else ())
    }
    if not found or not all(isinstance(own, keras.Model) for own in found.values()):
        raise ValueError(
            f'Model "{getattr(model, "name", model)}" is no cohort: its outputs are not those of '
            "whole models. Make one with tfkd.models.cohort(first, second); of a model with exits "
            "or branches take tfkd.models.single_exit or trunk."
        )
    return {name: found[name] for name in sorted(found, key=lambda name: name != forks.OUTPUT)}


def _copy(student, name):
    twin = keras.models.clone_model(student)
    twin.set_weights(student.get_weights())
    return keras.Model(twin.inputs[0], twin.outputs[0], name=name)


def _check_alike(first, other):
    if len(other.inputs) > 1:
        raise ValueError(
            f'Model "{other.name}" takes {len(other.inputs)} inputs; students of a cohort take one.'
        )
    for what, of in (("takes inputs of", "inputs"), ("gives outputs of", "outputs")):
        own, wanted = (tuple(getattr(model, of)[0].shape) for model in (other, first))
        if own != wanted:
            raise ValueError(
                f'Student "{other.name}" {what} the shape {own}, but "{first.name}" of {wanted}. '
                "Students of a cohort take the same input and know the same classes."
            )
