"""Knowledge review: the student's stages, fused from deep to shallow (Chen et al. 2021)."""

from collections.abc import Sequence

import keras
from keras import layers, ops

from tfkd.losses.base import DistillationLoss
from tfkd.losses.maps import adaptive_average_pool, check_maps, nearest_resize

MOST_CHANNELS = 512


def hierarchical_error(teacher, student):
    """Squared error of two maps and of their means over 4 x 4, 2 x 2 and 1 bins, weighted.

    Each coarser level weighs half of the one before it, levels that the map does not reach are left
    out, and the weights are divided by their sum (Chen et al. 2021, "Distilling Knowledge via
    Knowledge Review", arXiv:2104.09044, the hierarchical context loss).

    Args:
        teacher, student: float tensors of one shape (batch, height, width, channels).

    Returns:
        Tensor of shape (batch,).
    """
    size = tuple(student.shape[1:3])
    weight, weights, total = 1.0, 0.0, 0.0
    for pooled in [size, *((side, side) for side in (4, 2, 1))]:
        coarse = tuple(map(min, pooled, size))
        if coarse == size and weights:
            continue
        difference = adaptive_average_pool(student, coarse) - adaptive_average_pool(teacher, coarse)
        total += weight * ops.mean(ops.square(difference), axis=(1, 2, 3))
        weights, weight = weights + weight, weight / 2
    return total / weights


@keras.saving.register_keras_serializable(package="tfkd")
class ReviewDistillation(DistillationLoss):
    """ReviewKD: each stage of the teacher is learnt from the student's stage and all deeper ones.

    Chen et al. 2021, arXiv:2104.09044. From deep to shallow a trained fusion mixes the student's
    stage with what came from the deeper ones, by an attention over the positions, and gives a map
    of the teacher's shape; the value is the sum over the stages of `hierarchical_error`. Weights
    of 0.6 to 8, raised over the first 20 epochs (`tfkd.schedules.warm_up`), beside the loss on the
    labels in full. The authors end with the pooled features, a vector, and read the teacher's maps
    before their last ReLU.

    Args:
        teacher_layer_names: layers of the teacher, from shallow to deep, each a map or a vector.
        student_layer_names: as many of the student; the i-th teaches the i-th.
        name: name of the loss's metric.

    Raises:
        ValueError: no names, or not as many for both sides. In a Distiller: no maps of known size.
    """

    adapts = "itself"
    needs = ("training",)

    def __init__(
        self,
        teacher_layer_names: Sequence[str],
        student_layer_names: Sequence[str],
        name: str = "review_distillation",
    ):
        sides = {"teacher": teacher_layer_names, "student": student_layer_names}
        for side, names in sides.items():
            if isinstance(names, str) or not names:
                raise ValueError(
                    f"ReviewDistillation reads a list of the {side}'s layers, from shallow to "
                    f"deep, got {names!r}. tfkd.models.stages(model) lists a model's."
                )
        if len(teacher_layer_names) != len(student_layer_names):
            raise ValueError(
                f"ReviewDistillation compares its layers in pairs, but was given "
                f"{len(teacher_layer_names)} of the teacher and {len(student_layer_names)} of the "
                f"student: {list(teacher_layer_names)} and {list(student_layer_names)}."
            )
        super().__init__(tuple(teacher_layer_names), tuple(student_layer_names), name=name)

    def check_shapes(self, teacher_shape, student_shape):
        check_maps(
            self,
            *([_map_shape(shape) for shape in side] for side in (teacher_shape, student_shape)),
        )

    def build(self, teacher_shape, student_shape):
        taught, given = ([_map_shape(shape) for shape in s] for s in (teacher_shape, student_shape))
        middle = min(MOST_CHANNELS, given[-1][-1])
        self.narrowings, self.narrowing_norms, self.attentions = [], [], []
        self.widenings, self.widening_norms = [], []
        for level, (wanted, own) in enumerate(zip(taught, given, strict=True)):
            self.narrowings.append(_convolution(middle, 1, own[-1]))
            self.narrowing_norms.append(_norm(middle))
            if level < len(given) - 1:
                self.attentions.append(_convolution(2, 1, 2 * middle, use_bias=True))
            self.widenings.append(_convolution(wanted[-1], 3, middle))
            self.widening_norms.append(_norm(wanted[-1]))

    def fused(self, level, own, deeper, size, training):
        """One stage: (a map of the teacher's shape, what the next shallower stage gets).

        Args:
            level: number of the stage, 0 for the shallowest.
            own: the student's map, (batch, height, width, channels).
            deeper: what the deeper stage gave, or None for the deepest.
            size: (height, width) of the teacher's map.
            training: whether the student trains.
        """
        x = self.narrowing_norms[level](self.narrowings[level](own), training=training)
        if deeper is not None:
            deeper = nearest_resize(deeper, x.shape[1:3])
            attention = self.attentions[level](ops.concatenate([x, deeper], axis=-1))
            attention = ops.sigmoid(attention)
            x = x * attention[..., :1] + deeper * attention[..., 1:]
        x = nearest_resize(x, size)
        output = self.widening_norms[level](self.widenings[level](x), training=training)
        return output, x

    def call(self, teacher, student, training):
        total, deeper = 0.0, None
        for level in reversed(range(len(student))):
            wanted, own = _as_map(teacher[level]), _as_map(student[level])
            output, deeper = self.fused(level, own, deeper, wanted.shape[1:3], training)
            total += hierarchical_error(wanted, output)
        return total

    @property
    def teacher_layer_names(self):
        return list(self.teacher_layer_name)

    @property
    def student_layer_names(self):
        return list(self.student_layer_name)

    def get_config(self):
        config = super().get_config()
        names = [list(config.pop(f"{side}_layer_name")) for side in ("teacher", "student")]
        return {"teacher_layer_names": names[0], "student_layer_names": names[1], **config}


def _map_shape(shape):
    """The shape of a map; of a vector as a map of one position."""
    return (shape[0], 1, 1, shape[1]) if len(shape) == 2 else tuple(shape)


def _as_map(tensor):
    return tensor[:, None, None, :] if len(tensor.shape) == 2 else tensor


def _convolution(channels, kernel, given, use_bias=False):
    layer = layers.Conv2D(
        channels,
        kernel,
        padding="same",
        use_bias=use_bias,
        kernel_initializer="lecun_uniform",
        data_format="channels_last",
        dtype="float32",
    )
    layer.build((None, None, None, given))
    return layer


def _norm(channels):
    layer = layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=True, dtype="float32"
    )
    layer.build((None, None, None, channels))
    return layer
