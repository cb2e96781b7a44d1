"""What a recipe is: a paper's settings, the losses that it adds to a student, its own comparison.

Nothing here imports TensorFlow before something is built.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tfkd
from tfkd import defaults


class System(NamedTuple):
    """What is trained: sum of `label_weights` · cross-entropy + sum of `weights` · `losses`.

    Attributes:
        student: the `keras.Model` to train; with exits or branches it returns a dict of logits.
        losses: list of `tfkd.losses.DistillationLoss`.
        weights: a coefficient for each.
        label_weights: coefficient of the cross-entropy on the labels; of a student with several
            outputs {output: coefficient}.
        source: what stands for the teacher (a `tfkd.teachers` source); None for the run's teacher.
        source_name: what to call a source that may be stored; rows of one teacher whose sources
            have one name share what it says. Without a name it answers live.
        separate_inputs: whether the source takes an input of its own, as `tfkd.Distiller` has it:
            the settings' augmentation gives {"teacher": ..., "student": ...}.
    """

    student: Any
    losses: list
    weights: list
    label_weights: float | dict
    source: Any = None
    source_name: str = ""
    separate_inputs: bool = False

    def distiller(self, teacher, heads=None):
        """The `tfkd.Distiller` of this sum; compile it with `self.loss` and `self.loss_weights`.

        Args:
            teacher: what a Distiller takes; None where what it says is stored with the data, whose
                inputs are then the student's alone.
            heads: {name: `tfkd.heads.Head`} of what is stored, as `tfkd.TeacherCache` says it.
        """
        several = isinstance(self.label_weights, dict)
        return tfkd.Distiller(
            teacher,
            self.student,
            self.losses,
            self.weights,
            student_loss_weight=1.0 if several else self.label_weights,
            independent_weights=True,
            separate_inputs=self.separate_inputs and teacher is not None,
            teacher_head=heads,
        )

    @property
    def asks_teacher(self):
        """Whether a loss reads anything of the teacher."""
        return any(loss.taught_by == "teacher" for loss in self.losses)

    def model(self, teacher, heads=None):
        """What is fitted: the distiller, or the student itself where only labels teach it."""
        return self.distiller(teacher, heads) if self.losses else self.student

    @property
    def loss(self):
        """What `compile` takes as loss: the cross-entropy of integer labels, for every output."""
        import keras

        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        several = isinstance(self.label_weights, dict)
        return dict.fromkeys(self.label_weights, loss) if several else loss

    @property
    def loss_weights(self):
        """What `compile` of `self.model(teacher)` takes as `loss_weights`.

        None for a Distiller of one output, whose weight of the labels is its own: then its metric
        "student_loss" is the cross-entropy itself.
        """
        own = self.losses and not isinstance(self.label_weights, dict)
        return None if own else self.label_weights


class Finished(NamedTuple):
    """A run whose students are trained and measured, as a recipe's study sees it.

    Attributes:
        rows: list of `tfkd.runs.rows.Row`.
        record: `tfkd.runs.record.Record`, with all figures.
        splits: list of `tfkd.data.Splits`, in the order of `record.data`.
        directory: of the run.
        network: function of a row's name, by default the recipe's, -> its trained network of the
            first seed.
    """

    rows: list
    record: Any
    splits: list
    directory: Any
    network: Callable


def itself(student):
    """A student without anything to strip is deployed as it is."""
    return {"": student}


def distilled_by_default(settings, teacher, student):
    """Distillation by the defaults, what a classifier's recipe is compared with."""
    weight = defaults.STUDENT_LOSS_WEIGHT
    return System(student, [tfkd.losses.AnnealedDistillation()], [1.0 - weight], weight)


class Recipe(NamedTuple):
    """A paper as a recipe: a way to train a student, or a comparison of students or data sets.

    Attributes:
        name: such as "xu2022".
        paper: citation.
        task: what the paper is about.
        reconstruction: what of it is not the paper's own.
        settings: class of its settings: a `RecipeSettings`; of a comparison a `CompareSettings`,
            which says its rows.
        build: function (settings, teacher, student) -> `System`; the system's student is the one
            given, or starts from a copy of its weights. None for a comparison.
        ablations: function of settings -> {row: settings}, the paper's own comparison; of a
            comparison those whose rows are added.
        deployed: function of the trained student -> {name: single-output `keras.Model`}, what one
            would deploy; the recipe is judged by the first.
        notes: function (settings, image_shape, num_classes) -> lines to print below the table.
        plain: function (settings, teacher, student) -> `System` of what the recipe is compared
            with, plain distillation of the same student.
        study: function of a `Finished` run -> (dict of figures for the record, texts to print),
            which may write files into its directory.
    """

    name: str
    paper: str
    task: str
    reconstruction: str
    settings: type
    build: Callable | None
    ablations: Callable
    deployed: Callable = itself
    notes: Callable | None = None
    study: Callable | None = None
    plain: Callable = distilled_by_default

    @property
    def compares(self):
        """Whether it is a comparison, and no way to train one student."""
        return self.build is None
