"""The student as its own teacher: deep outputs teach shallow ones, groups their members, peers each
other."""

from collections.abc import Sequence

import keras
from keras import ops

from tfkd.losses.base import DistillationLoss, Softened
from tfkd.losses.classes import classes_of
from tfkd.losses.logits import known_logits, softened_kl


@keras.saving.register_keras_serializable(package="tfkd")
class SelfDistillation(DistillationLoss):
    """Any loss, taught by the student's own tensors (Zhang et al. 2019, "Be Your Own Teacher").

    Both names of the loss are the student's; no gradient goes into the one that teaches.

    ```python
    deepest_to_first = LogitsDistillation(teacher_layer_name="output", student_layer_name="exit_1")
    SelfDistillation(deepest_to_first)
    ```

    Args:
        loss: a `DistillationLoss` with a `teacher_layer_name`.
        name: name of the loss's metric; by default "self_" and the loss's own.

    Raises:
        ValueError: not such a loss, or a layer that would teach itself.
    """

    taught_by = "student"

    def __init__(self, loss: DistillationLoss, name: str | None = None):
        if not isinstance(loss, DistillationLoss):
            raise ValueError(
                "SelfDistillation takes a distillation loss such as LogitsDistillation(3.0, "
                f'teacher_layer_name="output", student_layer_name="exit_1"); got {loss!r}.'
            )
        if loss.teacher_layer_name == loss.student_layer_name:
            raise ValueError(
                f"SelfDistillation compares two tensors of the student, but {loss.name} reads "
                f"{loss.teacher_layer_name!r} on both sides. Give it teacher_layer_name= (the one "
                "that teaches) and student_layer_name= (the one that learns)."
            )
        loss.terms()  # refuses a formula for each output, which names one pair cannot serve
        super().__init__(
            loss.teacher_layer_name, loss.student_layer_name, name=name or f"self_{loss.name}"
        )
        self.loss = loss

    def name_layers(self, path):
        super().name_layers(path)
        self.loss.teacher_layer_name = self.teacher_layer_name
        self.loss.student_layer_name = self.student_layer_name

    @property
    def adapts(self):
        return self.loss.adapts

    @property
    def needs(self):
        return self.loss.needs

    def build(self, teacher_shape, student_shape):
        self.loss.build(teacher_shape, student_shape)

    def check_shapes(self, teacher_shape, student_shape):
        self.loss.check_shapes(teacher_shape, student_shape)

    def check_tensors(self, teacher, student):
        self.loss.check_tensors(teacher, student)

    def call(self, teacher, student, **needs):
        return self.loss.call(teacher, student, **needs)

    def get_config(self):
        return {"loss": keras.saving.serialize_keras_object(self.loss), "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["loss"]), name=config["name"])


def ensemble_logits(logits, right=None):
    """Mean of the logits of a group, of those members that are right where it is told.

    Args:
        logits: float tensor, shape (members, batch, classes).
        right: optional tensor of 0 and 1, shape (members, batch).

    Returns:
        Tensor of shape (batch, classes); zeros for an example that no member has right.
    """
    if right is None:
        return ops.mean(logits, axis=0)
    total = ops.sum(logits * right[..., None], axis=0)
    return total / ops.maximum(ops.sum(right, axis=0), 1.0)[..., None]


def is_right(logits, classes):
    """1.0 where the largest logit is that of the class, else 0.0.

    Args:
        logits: float tensor, shape (..., batch, classes).
        classes: integer tensor, shape (batch,).

    Returns:
        float32 tensor, shape (..., batch).
    """
    return ops.cast(ops.equal(ops.argmax(logits, axis=-1), classes), "float32")


class _OfOutputs(Softened, DistillationLoss):
    """A loss between several of the student's outputs, each of one class of many."""

    taught_by = "student"
    needs = ("heads",)

    @property
    def members(self):
        return list(self.student_layer_name)

    def check_shapes(self, teacher_shape, student_shape):
        for shape in (*teacher_shape[1:], *student_shape):
            super().check_shapes(teacher_shape[0], shape)

    def check_tensors(self, teacher, student):
        for tensor in (*teacher[1:], *student):
            super().check_tensors(teacher[0], tensor)

    def logits(self, teacher, student, heads):
        """Logits of both tuples of tensors.

        Raises:
            ValueError: an output of independent labels, or one of which nobody knows what it means.
        """
        if heads is None:
            return teacher, student
        if any(head.labels == "independent" for side in heads for head in side):
            raise ValueError(
                f"{self.name} compares outputs that tell one class of many, but one of "
                f"{[*self.teacher_layer_name, *self.student_layer_name]} holds independent "
                "labels. Leave it out."
            )
        return known_logits(self, (teacher, student), heads)


@keras.saving.register_keras_serializable(package="tfkd")
class EnsembleDistillation(_OfOutputs):
    """A group of the student's outputs teaches: the mean of its logits, to each of its learners.

    The value is the sum over the learners of `softened_kl` from the ensemble, no gradient into the
    ensemble. With the group as its own learners and no selection this is mutual learning by an
    ensemble (Guo et al. 2020, "KDCL", with the mean of the logits). Learners that are not in the
    group make it asymmetric; a group that chooses whom and what it teaches is that of Ye et al.
    2024 (doi 10.1007/s11063-024-11606-z; the selection is our reconstruction). A gated ensemble
    (Lan et al. 2018, "ONE", arXiv:1806.04606) is an output by itself, the only one of its group:
    `tfkd.models.with_branches(model, gate=True)` and `EnsembleDistillation(["ensemble"], members)`.

    Args:
        group: names of the student's outputs that teach, logits all.
        members: names of the outputs that learn; by default the group.
        temperature: T > 0. May be changed while training, without a retrace.
        teach_selectively: only those of the group that have an example right teach it; where none
            has, nothing is taught.
        learn_selectively: an example is taught only where the ensemble has it right.
        name: name of the loss's metric.

    Raises:
        ValueError: no names, or a temperature that is not positive.
    """

    def __init__(
        self,
        group: Sequence[str],
        members: Sequence[str] | None = None,
        temperature: float = 3.0,
        teach_selectively: bool = False,
        learn_selectively: bool = False,
        name: str = "ensemble_distillation",
    ):
        group, members = _names(self, group, "group"), _names(self, members or group, "members")
        super().__init__(group, members, name=name)
        self.temperature = temperature
        self.teach_selectively = bool(teach_selectively)
        self.learn_selectively = bool(learn_selectively)

    @property
    def group(self):
        return list(self.teacher_layer_name)

    @property
    def needs(self):
        selects = self.teach_selectively or self.learn_selectively
        return ("heads", "labels") if selects else ("heads",)

    def call(self, teacher, student, heads=None, labels=None):
        teacher, student = self.logits(teacher, student, heads)
        logits, right = ops.stack(teacher), None
        if labels is not None:
            classes = classes_of(labels)
            right = is_right(logits, classes)
        ensemble = ensemble_logits(logits, right if self.teach_selectively else None)
        temperature = self.temperature_tensor
        value = sum(softened_kl(ensemble, learner, temperature) for learner in student)
        if self.teach_selectively:
            value *= ops.max(right, axis=0)
        if self.learn_selectively:
            value *= is_right(ensemble, classes)
        return value

    def get_config(self):
        return {
            "group": self.group,
            "members": self.members,
            "temperature": self.temperature,
            "teach_selectively": self.teach_selectively,
            "learn_selectively": self.learn_selectively,
            "name": self.name,
        }


@keras.saving.register_keras_serializable(package="tfkd")
class MutualDistillation(_OfOutputs):
    """Outputs of the student that teach each other (Zhang et al. 2018, "Deep Mutual Learning",
    arXiv:1706.00384).

    The value is the sum over the members of the mean of `softened_kl` from each of the others, no
    gradient into the one that teaches. With `tfkd.models.cohort` the outputs are students of their
    own, which all take their step at once, from the answers to one batch; the paper's take turns.

    ```python
    peers = tfkd.models.cohort(first, second)
    loss = MutualDistillation(tfkd.models.exit_names(peers))
    distiller = tfkd.Distiller(
        None, peers, loss, student_loss_weight=1.0, independent_weights=True
    )
    ```

    Args:
        members: names of the student's outputs, logits all. Of one alone the value is 0.
        temperature: T > 0, the paper's is 1. May be changed while training, without a retrace.
        name: name of the loss's metric.

    Raises:
        ValueError: no names, or a temperature that is not positive.
    """

    def __init__(
        self,
        members: Sequence[str],
        temperature: float = 1.0,
        name: str = "mutual_distillation",
    ):
        members = _names(self, members, "members")
        super().__init__(members, members, name=name)
        self.temperature = temperature

    def call(self, teacher, student, heads=None):
        teacher, student = self.logits(teacher, student, heads)
        temperature, value = self.temperature_tensor, ops.zeros_like(student[0][..., 0])
        for own, learner in enumerate(student):
            peers = [*teacher[:own], *teacher[own + 1 :]]
            for peer in peers:
                value += softened_kl(peer, learner, temperature) / len(peers)
        return value

    def get_config(self):
        return {"members": self.members, "temperature": self.temperature, "name": self.name}


def _names(loss, names, role):
    if isinstance(names, str) or not names or len(set(names)) < len(names):
        raise ValueError(
            f"{type(loss).__name__}'s {role} must be names of the student's outputs, each once, "
            f'such as ["branch_1_1", "branch_1_2", "output"]; got {names!r}.'
        )
    return tuple(names)
