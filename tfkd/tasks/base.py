"""What a kind of task is: everything in which experiments on boxes, words or classes differ.

Nothing here imports TensorFlow before something is loaded or built.
"""

from typing import ClassVar

from tfkd.near_names import meant


class Task:
    """A kind of task; a subclass says all of this.

    Attributes:
        name: such as "classification".
        things: what examples are called, such as "images".
        figures: {name: `tfkd.evaluation.tables.Measure`} of a model's figures, in the order shown.
            The first one judges: it chooses epochs, seeds and rows, and is what a gain is of.
        lower_is_better: whether less of the first figure is better.
        unit: of a gain in words, such as "points of accuracy".
        names: of the models that `build` knows.
        classifies: whether a model says logits of classes for an image: then its answers may be
            stored and augmented in views, and it is calibrated, compared and exported as one.
        stores: whether its images may come from a store (--store).
    """

    name: ClassVar[str] = ""
    things: ClassVar[str] = "examples"
    figures: ClassVar[dict] = {}
    lower_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = ""
    names: ClassVar[tuple] = ()
    classifies: ClassVar[bool] = False
    stores: ClassVar[bool] = False

    def check_name(self, name):
        """Raises ValueError, with near matches, unless `build` knows a model's name."""
        if name not in self.names:
            hint = meant(name, self.names, most=1)
            raise ValueError(
                f'Unknown model "{name}" for {self.name}. {hint}There are: {", ".join(self.names)}.'
            )

    def load(self, settings, limit=None):
        """The data.

        Args:
            settings: with the fields of `tfkd.settings.DataSettings`, and `data`.
            limit: of training examples; by default that of the settings.

        Returns:
            `tfkd.data.Splits`: unbatched datasets in fixed order, and their info.

        Raises:
            ValueError, FileNotFoundError: data that cannot be read, and how to fix it.
        """
        raise NotImplementedError

    def build(self, role, settings, info):
        """A new model of a name, from Keras's global seed.

        Args:
            role: "teacher" or "student": which of the settings' models, and of their options.
            settings: with `teacher`, `teacher_options`, `student`, `student_options`.
            info: what `load` says of the data.

        Raises:
            TypeError, ValueError: options that it does not have.
        """
        raise NotImplementedError

    def check(self, role, model, name, info):
        """Raises ValueError unless a model fits the data."""

    def batches(self, dataset, settings, seed, info):
        """Training batches of (x, y) or (x, y, sample_weight), of known cardinality.

        Each iteration is the next epoch; order and augmentation follow from (seed, epoch) alone.

        Args:
            dataset: the unbatched training split.
            settings: with `batch_size` and `augment`.
            seed: of the order.
            info: what `load` says of the data.
        """
        raise NotImplementedError

    def loss(self, info, settings, judge):
        """The loss on the labels, as `compile` takes it.

        Args:
            info: what `load` says of the data.
            settings: `TrainingSettings`.
            judge: what `judge` returned for the model that is trained.
        """
        raise NotImplementedError

    def judge(self, model, dataset, info, output=None):
        """How good a model is on a split: a function without arguments, compiled once.

        Args:
            model: the `keras.Model`; each call takes the weights that it has then.
            dataset: an unbatched split.
            info: what `load` says of the data.
            output: of a model with several outputs, the one that is judged.

        Returns:
            function () -> {figure: float}.
        """
        raise NotImplementedError

    @property
    def head(self):
        """`tfkd.heads.Head` by which `tfkd export` serves a model's numbers; None if it does not.

        A classifier has that of one class of many.
        """
        return None

    @property
    def judged(self):
        """Name of the figure that judges."""
        return next(iter(self.figures))

    def score(self, figures):
        """What is compared to find the best: a tuple, more is better."""
        value = figures[self.judged]
        return (-value if self.lower_is_better else value,)

    def gain(self, own, other):
        """By how much one value of the first figure is better than another one."""
        return other - own if self.lower_is_better else own - other

    def told(self, figures):
        """The first figure in words, such as "accuracy 97.22 %"."""
        measure = self.figures[self.judged]
        name, _, unit = measure.heading.partition(" (")
        value = f"{measure.factor * figures[self.judged]:.{measure.decimals + 1}f}"
        return f"{name} {value} {unit.removesuffix(')')}".rstrip()

    def short(self, value):
        """Shorter ways to tell a value of the first figure, for a narrow line."""
        measure = self.figures[self.judged]
        return (f"val {self.judged} {measure.factor * value:.{measure.decimals}f}",)
