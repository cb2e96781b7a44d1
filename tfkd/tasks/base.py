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
        classifies: whether a model says logits of classes for an example: then it is calibrated,
            compared and exported as one.
        replays: whether a training example is a function of its number and its view alone, see
            `batches`: then a teacher's answers to it are stored.
        not_exported: {"tflite" or a quantization of it: why `tfkd export` writes none of its
            students}.
        timed: whether its models are timed, however many there are; classifiers are in any case,
            where they are few.
        stores: whether its images may come from a store (--store).
    """

    name: ClassVar[str] = ""
    things: ClassVar[str] = "examples"
    figures: ClassVar[dict] = {}
    lower_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = ""
    names: ClassVar[tuple] = ()
    classifies: ClassVar[bool] = False
    replays: ClassVar[bool] = False
    timed: ClassVar[bool] = False
    stores: ClassVar[bool] = False
    not_exported: ClassVar[dict] = {}

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

    def seen(self, role, model, name, info):
        """Sentences about what a model makes of the data, though it fits."""
        return []

    def batches(self, dataset, settings, seed, info, views=None, stored=None):
        """Training batches of (x, y) or (x, y, sample_weight), of known cardinality.

        Each iteration is the next epoch, whose order follows from (seed, epoch). A task that does
        not replay has batches of its own, without the last two arguments. Of others example i is in
        epoch e its view e % views, which follows from (settings.seed, i, view), whoever trains.

        Args:
            dataset: the unbatched training split.
            settings: with `batch_size`, `augmentation` and `seed`.
            seed: of the order.
            info: what `load` says of the data.
            views: versions of each example; by default another one in every epoch.
            stored: `tfkd.TeacherCache` of these versions of `examples`: then batches hold sample
                weights of 1 and what the teacher said.
        """
        from tfkd.data import view_seed
        from tfkd.data.pipeline import augmented_labels, batches_of

        dataset, augment = self.examples(dataset, info), self.augmentation(settings, info)
        if stored is not None:
            made = stored.dataset(dataset, settings.batch_size, seed=seed, augment=augment)
            return self.trimmed(made)

        def viewed(indices, epochs, x, y):
            if augment is None:
                return x, y
            seeds = view_seed(indices, epochs % (views or 2**31), settings.seed)
            return augment(x, seeds), augmented_labels(augment, y, seeds)

        made = batches_of(dataset, settings.batch_size, viewed, shuffle=True, seed=seed)
        return self.trimmed(made)

    def examples(self, dataset, info):
        """The unbatched training split as `batches` takes it, every example of one shape."""
        return dataset

    def augmentation(self, settings, info):
        """What makes a view of an example: None, or a function as `tfkd.data.augmentation` gives.

        Where labels follow what becomes of x, it has an attribute `labels`, a function (labels,
        seeds) -> labels.
        """
        from tfkd import data

        name, options = settings.augmentation
        return data.augmentation(name, **options)

    def storable(self, names):
        """Whether a teacher's answers of these names, such as "output", are stored."""
        return self.replays

    def trimmed(self, batches):
        """Batches of `examples` without what is padding in all of their rows."""
        return batches

    def trimmed_shapes(self, shapes):
        """{name: shape} of stored answers as they stand in the trimmed batches."""
        return shapes

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

    def typical(self, examples):
        """One of a batch of examples, as a batch: what a model is timed on."""
        return examples[:1]

    def exports(self, student, splits, check=True):
        """How a student is exported: `tfkd.tasks.exports.Exports`, by the task's `head`.

        Args:
            student: `keras.Model`.
            splits: `tfkd.data.Splits` that it was trained on.
            check: False leaves the checks out.

        Raises:
            ValueError: the task has no head.
        """
        from tfkd.tasks.exports import HeadExports

        if self.head is None:
            raise ValueError(
                f"tfkd export does not know what a student of {self.name} is served as. In a "
                "program: keras.saving.load_model of the run's student.keras, and its own export."
            )
        return HeadExports(student, splits, check, self.head, self.classifies)

    @property
    def head(self):
        """`tfkd.heads.Head` that says what a model's numbers mean, or None."""
        return None

    # Of files that `tfkd predict` reads.
    suffixes: ClassVar[tuple] = ()

    def read(self, path, data):
        """A file as a model takes it: one example.

        Args:
            path: `pathlib.Path`.
            data: what a run's record says of its data, `tfkd.runs.record.Data`.

        Raises:
            ValueError, OSError, tf.errors.OpError: it cannot be read.
        """
        raise NotImplementedError

    def opened(self, path, student):
        """An export as a `tfkd.runtime.exported_models.Exported` of the data's examples.

        Args:
            path: of the export.
            student: function without arguments that gives the Keras student that it is of.
        """
        from tfkd.export import open_exported

        return open_exported(path)

    @property
    def thing(self):
        """What one example is called."""
        return self.things.removesuffix("s")

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
