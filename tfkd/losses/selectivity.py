"""Neuron selectivity transfer (Huang and Wang 2017)."""

import keras
from keras import ops

from tfkd.losses.base import DistillationLoss
from tfkd.losses.features import unit
from tfkd.losses.maps import at_one_size, check_maps

_NO_MAP = 1e-12


def selectivity_discrepancy(teacher, student):
    """Squared maximum mean discrepancy between the channels' maps, with the kernel (x · y)².

    Huang and Wang 2017, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer",
    arXiv:1707.01219, eq. 6: each channel is a point, its map over the positions of length 1.

    Args:
        teacher, student: float tensors, shape (batch, height, width, channels), of any two sizes
            and widths; the larger is pooled to the smaller.

    Returns:
        Tensor of shape (batch,).
    """
    teacher, student = (
        unit(ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3])), axis=1, smallest=_NO_MAP)
        for x in at_one_size(teacher, student)
    )

    def kernel(first, second):
        products = ops.einsum("bpi,bpj->bij", first, second)
        return ops.mean(ops.square(products), axis=(1, 2))

    return kernel(teacher, teacher) + kernel(student, student) - 2.0 * kernel(teacher, student)


@keras.saving.register_keras_serializable(package="tfkd")
class NeuronSelectivityTransfer(DistillationLoss):
    """NST: the channels' maps of both models are to be alike as sets, in any order and number.

    Huang and Wang 2017, arXiv:1707.01219; weight about 50 for each pair of stages. Unlike
    architectures are its weak side.

    Args:
        teacher_layer_name: layer of the teacher that gives a map, by name or path.
        student_layer_name: the same for the student, of any size and width.
        name: name of the loss's metric.
    """

    adapts = "itself"

    def check_shapes(self, teacher_shape, student_shape):
        check_maps(self, teacher_shape, student_shape)

    def call(self, teacher, student):
        return selectivity_discrepancy(teacher, student)
