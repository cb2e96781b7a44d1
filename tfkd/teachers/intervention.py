"""A teacher that puts its own tokens where the student is too far from it."""

import math

import keras
import numpy as np
import tensorflow as tf

from tfkd import taps
from tfkd.heads import GivenHead
from tfkd.losses.logits import softened_kl
from tfkd.teachers.live import LiveTeacher


@keras.saving.register_keras_serializable(package="tfkd")
class Intervention(LiveTeacher):
    """Teacher's tokens in the student's sequence, where both disagree by more than a threshold.

    After Tatarnikova et al. 2025 (doi 10.17586/2226-1494-2025-25-4-737-743), whose formulas are not
    public; this is a reconstruction. Before a train step both models read the data's sequence. At
    each position where

        KL(teacher || student) >= threshold · exp(-decay · share of the training that is done)

    the data's next token is replaced by the teacher's likeliest (never by padding), in the labels
    and, where it is read at the next position, in the input. The step is then one on the new
    sequence, with the teacher's answers to it. A threshold of infinity leaves every sequence as it
    is: plain training. A threshold of 0 replaces every token: teacher forcing by the teacher's
    tokens. Padding is never replaced, and validation sees the data as it is.

    ```python
    teacher = tfkd.teachers.Intervention(model, threshold=2.0, decay=1.2)
    distiller = tfkd.Distiller(teacher, student, tfkd.losses.LogitsDistillation(1.0))
    ```

    It costs a further pass of the student and of the teacher a step. `fit` reports the share of
    tokens that it replaced as "inserted". No cache stores its answers.

    Args:
        model: a trained causal language model, tokens (batch, positions) to logits (batch,
            positions, tokens), where the label of a position is the input of the next.
        threshold: in nats, at least 0, or infinity.
        decay: at least 0; 0 keeps the threshold as it is.
        tokens: name of the input that holds the sequence, where there are several: of a translator
            "target".
        padding: label whose positions are left alone.
        head, fused_kernels: as in `LiveTeacher`.

    Raises:
        ValueError: a threshold or decay outside of its range.
    """

    storable = False

    def __init__(
        self,
        model: keras.Model,
        threshold: float = 2.0,
        decay: float = 1.2,
        tokens: str | None = None,
        padding: int = 0,
        head: GivenHead = None,
        fused_kernels: bool | None = None,
    ):
        super().__init__(model, head, fused_kernels)
        if not threshold >= 0:
            raise ValueError(f"threshold must be at least 0 (in nats), got {threshold!r}.")
        if not 0 <= decay < math.inf:
            raise ValueError(f"decay must be a number of at least 0, got {decay!r}.")
        self.threshold, self.decay = float(threshold), float(decay)
        self.tokens, self.padding = tokens, padding
        self.metrics = [keras.metrics.Mean(name="inserted")]

    @property
    def given(self):
        return self

    def rewritten(self, batch, student, progress):
        if batch.knowledge and taps.OUTPUT in batch.knowledge:
            raise ValueError(
                "A teacher that changes the sequences answers to what it made of them, but the "
                "data brings answers to the sequences as they were. Give data without them."
            )
        if batch.y is None:
            raise ValueError(
                "A teacher that changes the sequences needs the data's next tokens as labels, but "
                "the data has none. Give (tokens, next tokens)."
            )
        labels = tf.convert_to_tensor(batch.y)
        known = labels != tf.cast(self.padding, labels.dtype)
        if math.isinf(self.threshold):
            self._count(tf.zeros_like(known), known)
            return batch
        logits, own = self.call(batch.x)[taps.OUTPUT], student(batch.x)[taps.OUTPUT]
        apart = softened_kl(tf.cast(logits, tf.float32), tf.cast(own, tf.float32), 1.0)
        threshold = self.threshold * tf.exp(-self.decay * progress)
        # Rounding may leave equal distributions a divergence below 0.
        chosen = known & (tf.maximum(apart, 0.0) >= threshold)
        self._count(chosen, known)
        padding = tf.one_hot(self.padding, logits.shape[-1], on_value=-np.inf, dtype=logits.dtype)
        token = tf.argmax(logits + padding, axis=-1, output_type=labels.dtype)
        labels = tf.where(chosen, token, labels)
        tokens = batch.x if self.tokens is None else batch.x[self.tokens]
        following = tf.cast(
            tf.concat([tf.cast(tokens[:, :1], labels.dtype), labels[:, :-1]], 1), tokens.dtype
        )
        tokens = tf.where(tokens == tf.cast(self.padding, tokens.dtype), tokens, following)
        x = tokens if self.tokens is None else {**batch.x, self.tokens: tokens}
        return batch._replace(x=x, y=labels)

    def _count(self, chosen, known):
        (metric,) = self.metrics
        metric.update_state(tf.cast(chosen, tf.float32), tf.cast(known, tf.float32))

    def serialized(self):
        return keras.saving.serialize_keras_object(self)

    def get_config(self):
        names = ("threshold", "decay", "tokens", "padding")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in ("model", "head"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)
