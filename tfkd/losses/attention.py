"""Attention: where a map is strong (Zagoruyko and Komodakis 2017), and for which class (CAT-KD)."""

import keras
from keras import ops

from tfkd.losses.base import DistillationLoss
from tfkd.losses.features import unit
from tfkd.losses.maps import adaptive_average_pool, at_one_size, check_maps

# Squares of features are compared: lengths up to this are those of features up to its root.
_NO_MAP = 1e-12


def attention_map(x):
    """The mean over channels of a map's squares, as a vector of length 1.

    Args:
        x: float tensor, shape (batch, height, width, channels).

    Returns:
        Tensor of shape (batch, height x width); zeros for a map of zeros.
    """
    positions = x.shape[1] * x.shape[2]
    strength = ops.reshape(ops.mean(ops.square(x), axis=-1), (-1, positions))
    return unit(strength, smallest=_NO_MAP)


def attention_error(teacher, student):
    """Mean squared difference of two maps' attention, the larger map pooled to the smaller.

    Zagoruyko and Komodakis 2017, "Paying More Attention to Attention", arXiv:1612.03928, as their
    code has it: squared, and averaged over the positions.

    Args:
        teacher, student: float tensors, shape (batch, height, width, channels), of any two sizes
            and widths.

    Returns:
        Tensor of shape (batch,).
    """
    teacher, student = (attention_map(side) for side in at_one_size(teacher, student))
    return ops.mean(ops.square(teacher - student), axis=-1)


@keras.saving.register_keras_serializable(package="tfkd")
class AttentionTransfer(DistillationLoss):
    """AT: where the teacher's map is strong, the student's is to be, whatever its channels.

    Zagoruyko and Komodakis 2017, arXiv:1612.03928. One loss for each pair of stages, each with a
    weight of about 1000, as the value is averaged over the positions.

    Args:
        teacher_layer_name: layer of the teacher that gives a map, by name or path.
        student_layer_name: the same for the student, of any size and width.
        name: name of the loss's metric.
    """

    adapts = "itself"

    def check_shapes(self, teacher_shape, student_shape):
        check_maps(self, teacher_shape, student_shape)

    def call(self, teacher, student):
        return attention_error(teacher, student)


def class_map_error(teacher, student, resolution, normalize):
    """Mean squared difference of class maps, pooled to resolution x resolution.

    Guo et al. 2023, "Class Attention Transfer Based Knowledge Distillation", arXiv:2304.12777.

    Args:
        teacher, student: float tensors, shape (batch, height, width, classes).
        resolution: height and width to pool to, where a map is larger.
        normalize: whether each class's map is brought to length 1 afterwards.

    Returns:
        Tensor of shape (batch,).
    """

    def pooled(x):
        x = adaptive_average_pool(x, [min(resolution, side) for side in x.shape[1:3]])
        x = ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))
        return unit(x, axis=1, smallest=_NO_MAP) if normalize else x

    return ops.mean(ops.square(pooled(teacher) - pooled(student)), axis=(1, 2))


@keras.saving.register_keras_serializable(package="tfkd")
class ClassAttentionTransfer(DistillationLoss):
    """CAT-KD: where in the image each class is seen (Guo et al. 2023, arXiv:2304.12777).

    Both models give maps of class scores whose mean over the positions are their logits:
    `tfkd.models.with_class_maps(model)` makes such a model, with a layer "class_maps", of one that
    ends in global average pooling and a Dense layer.

    Args:
        resolution: height and width that maps are pooled to.
        normalize: whether each class's map is brought to length 1; the authors do so for unlike
            architectures.
        teacher_layer_name: layer of the teacher that gives maps of class scores.
        student_layer_name: the same for the student.
        name: name of the loss's metric.

    Raises:
        ValueError: a resolution that is no whole number of 1 or more. In a Distiller: no maps, or
            maps of another number of classes.
    """

    adapts = "itself"
    settings = ("resolution", "normalize")

    def __init__(
        self,
        resolution: int = 2,
        normalize: bool = True,
        teacher_layer_name: str | None = "class_maps",
        student_layer_name: str | None = "class_maps",
        name: str = "class_attention_transfer",
    ):
        if isinstance(resolution, bool) or not isinstance(resolution, int) or resolution < 1:
            raise ValueError(f"resolution must be a whole number of 1 or more, got {resolution!r}.")
        super().__init__(teacher_layer_name, student_layer_name, name=name)
        self.resolution, self.normalize = resolution, bool(normalize)

    def check_shapes(self, teacher_shape, student_shape):
        check_maps(self, teacher_shape, student_shape)
        shapes = (tuple(teacher_shape), tuple(student_shape))
        sizes = {tuple(min(self.resolution, side) for side in shape[1:3]) for shape in shapes}
        if shapes[0][-1] != shapes[1][-1] or len(sizes) > 1:
            raise ValueError(
                f"{self.name} compares maps of the same classes at the resolution "
                f"{self.resolution}, but the teacher's are {shapes[0]} and the student's "
                f"{shapes[1]}. Read the layers that tfkd.models.with_class_maps makes, and take a "
                "resolution that both maps have."
            )

    def call(self, teacher, student):
        return class_map_error(teacher, student, self.resolution, self.normalize)
