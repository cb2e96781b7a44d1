"""Teacher-free distillation: a virtual teacher that is sure of the label (Yuan et al. 2020)."""

import keras
from keras import ops

from tfkd.losses import classes
from tfkd.losses.base import Softened
from tfkd.losses.logits import softened_kl


def virtual_probabilities(label, logits, correct):
    """`correct` for the label, the rest spread evenly over the other classes.

    Args:
        label: int tensor, shape (batch,).
        logits: float tensor, shape (batch, classes).
        correct: share of 1.

    Returns:
        Tensor of the shape of `logits`.
    """
    rest = (1.0 - correct) / (logits.shape[-1] - 1)
    return ops.where(classes.one_hot(label, logits), correct, rest)


@keras.saving.register_keras_serializable(package="tfkd")
class TeacherFreeDistillation(Softened, classes.ClassDistillation):
    """Tf-KD: the student learns from a virtual teacher, so that none has to be trained.

    Yuan et al. 2020, "Revisiting Knowledge Distillation via Label Smoothing Regularization",
    arXiv:1909.11723, eq. 9: `softened_kl` from a teacher that gives the label `correct` and every
    other class the same. It is what a teacher's knowledge is worth comparing with: all of it but
    how the other classes differ.

    ```python
    distiller = tfkd.Distiller(None, student, tfkd.losses.TeacherFreeDistillation(), 0.1,
                               student_loss_weight=0.9, independent_weights=True)
    ```

    Args:
        temperature: T > 0; the paper's is 20 for CIFAR-100. The value is scaled by T².
        correct: the virtual teacher's probability of the label, above that of a guess; the paper's
            is 0.99.
        as_released: whether to soften the virtual teacher's probabilities as if they were logits,
            and the student not at all, without T² outside, as the authors' code does. The target is
            then nearly uniform: what it adds is label smoothing.
        student_layer_name: output of the student; None for its only one.
        name: name of the loss's metric.

    Raises:
        ValueError: a temperature that is not positive, or a share that is no more than a guess.
    """

    taught_by = "student"
    reads_labels = True
    settings = ("temperature", "correct", "as_released")

    def __init__(
        self,
        temperature: float = 20.0,
        correct: float = 0.99,
        as_released: bool = False,
        student_layer_name: str | None = None,
        name: str = "teacher_free_distillation",
    ):
        super().__init__(False, student_layer_name, student_layer_name, name)
        self.temperature, self.as_released = temperature, bool(as_released)
        if not 0 < correct < 1:
            raise ValueError(f"correct must lie between 0 and 1, got {correct!r}.")
        self.correct = float(correct)

    def check_shapes(self, teacher_shape, student_shape):
        super().check_shapes(teacher_shape, student_shape)
        if self.correct * student_shape[-1] <= 1:
            raise ValueError(
                f"{self.name}'s virtual teacher gives the label a probability of {self.correct:g}, "
                f"no more than a guess among {student_shape[-1]} classes. Give a larger correct=."
            )

    def formula(self, teacher, student, label):
        del teacher  # the student's own logits: what is taught is made of the label
        temperature = self.temperature_tensor
        virtual = virtual_probabilities(label, student, self.correct)
        if self.as_released:
            return softened_kl(virtual / temperature, student, 1.0)
        return softened_kl(ops.log(virtual), student, temperature)

    def get_config(self):
        config = super().get_config()
        del config["teacher_layer_name"]
        return config
