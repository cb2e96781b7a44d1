"""The source for whatever a Distiller was given as its teacher."""

import keras

from tfkd.teachers.callables import CallableTeacher
from tfkd.teachers.live import LiveTeacher
from tfkd.teachers.source import Source, StoredKnowledge


def source_of(teacher, head=None, fused_kernels=None):
    """The `Source` for what a Distiller was given as its teacher.

    Args:
        teacher: see `tfkd.Distiller`.
        head, fused_kernels: for a model or function, see `LiveTeacher`.

    Raises:
        ValueError: nothing that can be a teacher, or a source with another `head` beside it.
    """
    if isinstance(teacher, Source):
        if head is not None:
            raise ValueError(
                f"teacher_head is {head!r}, but the teacher is a {type(teacher).__name__}, which "
                "says itself what its outputs mean. Give head= there, or to its members."
            )
        return teacher
    if teacher is None:
        return StoredKnowledge(head)
    if isinstance(teacher, keras.Layer):
        made = LiveTeacher(teacher, head, fused_kernels)
        made.of_model = True
        return made
    if callable(teacher):
        return CallableTeacher(teacher, head=head)
    raise ValueError(
        "teacher must be a keras.Model, a keras.layers.TFSMLayer over a SavedModel, a source of "
        "tfkd.teachers, a function from a batch of inputs to arrays, or None where the data brings "
        f"the teacher's outputs; got {type(teacher).__name__} {teacher!r}."
    )
