"""The loss of a classifier on integer labels."""

import keras


class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of integer labels, each smoothed over all classes (Szegedy et al. 2016)."""

    def __init__(self, smoothing, from_logits):
        super().__init__(name="smoothed_crossentropy")
        self.smoothing, self.from_logits = smoothing, from_logits

    def call(self, y_true, y_pred):
        labels = keras.ops.one_hot(keras.ops.cast(y_true, "int32"), y_pred.shape[-1])
        return keras.losses.categorical_crossentropy(
            labels, y_pred, from_logits=self.from_logits, label_smoothing=self.smoothing
        )


def loss(smoothing, from_logits):
    """The loss on integer labels, smoothed or not."""
    if smoothing:
        return SmoothedCrossentropy(smoothing, from_logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
