"""A teacher that is asked about two views of an image: the student's, and the plain one."""

import keras
import tensorflow as tf

from tfkd.heads import Head
from tfkd.taps import OUTPUT
from tfkd.teachers.given import source_of
from tfkd.teachers.source import Source

PARTNER = "partner"


@keras.saving.register_keras_serializable(package="tfkd")
class TwoViews(Source):
    """What a teacher says of the view that the student sees, and its logits for the plain view.

    It takes what `tfkd.data.augmentation("two_views")` makes of images, and gives beside the
    teacher's own tensors "partner": the logits for the plain view, 0 where the student sees a plain
    view itself. `tfkd.losses.ConfidenceDistillation` reads both.

    ```python
    source = tfkd.teachers.TwoViews(teacher)
    loss = tfkd.losses.ConfidenceDistillation(temperature=4)
    distiller = tfkd.Distiller(source, student, loss, separate_inputs=True)
    tfkd.TeacherCache.build("cache", distiller, train, tfkd.data.augmentation("two_views"), 30)
    ```

    Args:
        teacher: a `keras.Model` with one output, or a source that answers live.

    Raises:
        ValueError: a teacher that answers only when a cache is built, or that learns; when its
            outputs are known, one that has several.
    """

    def __init__(self, teacher):
        self.teacher = source_of(teacher)
        if not self.teacher.live or self.teacher.optimizer is not None:
            raise ValueError(
                "TwoViews asks its teacher in a step and leaves it as it is, which takes a "
                f"keras.Model or a source that answers live; got {type(teacher).__name__}."
            )
        self.needs, self.storable = self.teacher.needs, self.teacher.storable

    @property
    def heads(self):
        heads = self.teacher.heads
        own = heads.get(OUTPUT, Head())
        # Where nobody knows what the output is, its own numbers tell: here many may be 0.
        return {**heads, PARTNER: Head("logits") if own == Head() else own}

    def tap(self, names):
        self.teacher.tap([name for name in names if name != PARTNER])

    def signature(self):
        image = self.teacher.signature()
        if image is None:
            return None
        return {"seen": image, "plain": image, "augmented": tf.TensorSpec((None,), tf.bool)}

    def trace(self, signature):
        shapes = self.teacher.trace(signature["seen"])
        if shapes is None:
            return None
        if OUTPUT not in shapes:
            raise ValueError(
                f"TwoViews reads the only output of a teacher, but this one gives {list(shapes)}. "
                "Give a model of one of its outputs."
            )
        return {**shapes, PARTNER: shapes[OUTPUT]}

    def call(self, x, labels=None):
        given = (labels,) if "labels" in self.needs else ()
        tensors = self.teacher.call(x["seen"], *given)
        partner = self.teacher.call(x["plain"], *given)[OUTPUT]
        augmented = tf.reshape(x["augmented"], (-1, 1))
        return {**tensors, PARTNER: tf.where(augmented, partner, tf.zeros_like(partner))}

    def models(self):
        return self.teacher.models()

    def identity(self):
        return {"two_views": self.teacher.identity()}

    def save(self, directory):
        self.teacher.save(directory)

    def load(self, directory):
        self.teacher.load(directory)

    def get_config(self):
        return {"teacher": keras.saving.serialize_keras_object(self.teacher)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["teacher"]))
