"""Which distillation loss reads which named tensors, and what each says of one batch."""

import keras
import tensorflow as tf

from tfkd import adapters, taps, validation
from tfkd.batches import INDEX, weights_name
from tfkd.heads import Head
from tfkd.taps import OUTPUT

# What a loss may need beside its two tensors, by keyword.
NEEDS = ("labels", "index", "heads", "training", "progress", "counted")


class Parts(keras.layers.Layer):
    """What is trained beside the student: adapters, and the layers that losses own.

    A layer only so that Keras trains, saves and restores what is in it.
    """

    def __init__(self, name="adapters", **kwargs):
        super().__init__(name=name, **kwargs)
        self.built = True

    def hold(self, name, part):
        """Tracks a layer, variable, or list or dict of them; gives it back."""
        setattr(self, name, part)
        return part


class Matching:
    """Every loss's comparisons, each of a named tensor of the teacher with one of the student.

    Losses declare what they need (see `tfkd.losses.DistillationLoss`).

    Args:
        losses: list of `tfkd.losses.DistillationLoss`.
        models: {"teacher": list of the models in which layers of the teacher may be, "student":
            list with the student}, for losses that were given layers as objects.

    Attributes:
        parts: `Parts`, filled when the shapes are known.
        knowledge_shapes: {name: shape} of the teacher's tensors, once connected.
    """

    def __init__(self, losses, models=None):
        self.losses = tuple(losses)
        for loss in losses:
            loss.name_layers(lambda *layer: layer_path(models or {}, *layer))
        self.parts = Parts()
        self.knowledge_shapes = None
        self._pairs = [(i, *term) for i, loss in enumerate(losses) for term in loss.terms()]
        self._adapters = {}  # key of a pair → layer
        for _, loss, _, _ in self._pairs:
            validation.needs(loss, NEEDS)

    @property
    def connected(self):
        """Whether the shapes are known, the adapters built and the names resolved."""
        return self.knowledge_shapes is not None

    @property
    def metric_names(self):
        """A name for each loss's metric: the loss's own, numbered where names repeat."""
        taken = ["loss", "student_loss", "distillation_loss", "total_loss"]
        for loss in self.losses:
            same = [loss.name, *(f"{loss.name}_{number}" for number in range(2, len(taken) + 2))]
            taken.append(next(name for name in same if name not in taken))
        return taken[4:]

    @property
    def reads_teacher(self):
        """Whether any loss reads a teacher; without one all are taught by the student itself."""
        return any(loss.taught_by == "teacher" for _, loss, _, _ in self._pairs)

    def names(self, role):
        """Names that the losses read of the "teacher" or the "student", where they give any."""
        read = [taught for _, loss, taught, _ in self._pairs if loss.taught_by == role]
        if role == "student":
            read += [learnt for _, _, _, learnt in self._pairs]
        return sorted({name for names in read for name in _several(names) if isinstance(name, str)})

    @property
    def read_of_teacher(self):
        """The set of names that the losses read of the teacher, once connected."""
        read = [taught for _, loss, taught, _ in self._pairs if loss.taught_by == "teacher"]
        return self.with_weights({name for names in read for name in _several(names)})

    def with_weights(self, names):
        """Names of the teacher's tensors, with those of the weights of several teachers' outputs.

        Args:
            names: set of names.
        """
        weights = {weights_name(name) for name in names}
        return names | weights & set(self.knowledge_shapes or ())

    def unknown_logits(self, heads):
        """Names that are read of the teacher as logits, where nobody knows what they hold.

        Args:
            heads: {name: `tfkd.heads.Head`} of the teacher.
        """
        read = [
            name
            for _, loss, taught, _ in self._pairs
            if "heads" in loss.needs and loss.taught_by == "teacher"
            for name in _several(taught)
        ]
        return [name for name in dict.fromkeys(read) if heads.get(name, Head()) == Head()]

    def connect(self, knowledge_shapes, student_shapes):
        """Resolves names, checks shapes, and builds adapters and what losses own.

        Args:
            knowledge_shapes: {name: shape with batch} of the teacher's tensors.
            student_shapes: the same for the student.

        Raises:
            ValueError: a name that there is not, or shapes that cannot be compared.
        """
        resolved = []
        shapes = {"teacher": knowledge_shapes, "student": student_shapes}
        for key, (index, loss, taught, learnt) in enumerate(self._pairs):
            teaching = shapes[loss.taught_by]
            taught = resolved_name(taught, teaching, loss.taught_by, loss)
            learnt = resolved_name(learnt, student_shapes, "student", loss)
            wanted, given = _read(teaching, taught), _read(student_shapes, learnt)
            several = _are_several(loss, taught, teaching)
            if several:  # each of them is compared by itself
                wanted = (wanted[0], *wanted[2:])
            if loss.adapts is not True:
                loss.check_shapes(wanted, given)
            loss.build_once(wanted, given)
            if several and loss.parts():
                raise ValueError(_needs_one_teacher(loss, "owns layers"))
            for name, part in loss.parts().items():
                self.parts.hold(f"loss_{index}_{name}", part)
            if loss.adapts is True:
                adapter = adapters.build(given, wanted, name=f"adapter_{key}")
                if adapter is not None:
                    self._adapters[key] = self.parts.hold(f"adapter_{key}", adapter)
            resolved.append((index, loss, taught, learnt))
        self._pairs = resolved
        self.knowledge_shapes = {name: tuple(shape) for name, shape in knowledge_shapes.items()}

    def __call__(
        self,
        knowledge,
        tensors,
        sample_weight=None,
        labels=None,
        heads=None,
        training=False,
        progress=1.0,
    ):
        """The value of each loss on one batch, a list of float32 scalars.

        Args:
            knowledge: {name: tensor} of the teacher, and the examples' numbers under "index".
            tensors: {name: tensor} of the student.
            sample_weight: optional tensor (batch, ...); or, for several outputs, a list or
                {output name: tensor}, which weigh losses on outputs and no hints.
            labels: what the data gives, one for all outputs or one for each, or None.
            heads: {"teacher": {name: Head}, "student": {name: Head}} as far as they are known; None
                where all that is read as logits holds logits.
            training: whether the student trains.
            progress: share of the training that is done, a scalar from 0 to 1.
        """
        values = [0.0] * len(self.losses)
        for key, (position, loss, taught, learnt) in enumerate(self._pairs):
            own = loss.taught_by == "student"
            several = _are_several(loss, taught, self.knowledge_shapes)
            read = (taught, weights_name(taught)) if several else _several(taught)
            validation.knowledge(knowledge if not own else tensors, read, loss)
            teacher = _read(tensors if own else knowledge, taught)
            if own:
                teacher = tf.nest.map_structure(tf.stop_gradient, teacher)
            student = _read(tensors, learnt)
            if key in self._adapters:
                student = self._adapters[key](student, training=training)
            needs = {
                "labels": of_output(labels, learnt, tensors),
                "index": knowledge.get(INDEX),
                "heads": heads
                and (_heads(heads[loss.taught_by], taught), _heads(heads["student"], learnt)),
                "training": training,
                "progress": progress,
                "counted": (),  # the loss's own, of weights and mask
            }
            weight = of_output(sample_weight, learnt, tensors)
            answers = [(teacher, weight)]
            if several:
                answers = _each(teacher, knowledge[weights_name(taught)], weight)
            for answer, weight in answers:
                values[position] += loss(
                    answer, student, weight, **{name: needs[name] for name in loss.needs}
                )
        return values


def layer_path(models, loss, role, layer):
    """The path of a layer that a loss was given as an object.

    Args:
        models: as for `Matching`.
        loss: the loss.
        role: "teacher" or "student", whose layer it is to be.
        layer: `keras.Layer`.

    Raises:
        ValueError: no layer of that model.
    """
    for model in models.get(role, ()):
        path = taps.path_of(model, layer)
        if path is not None:
            return path
    elsewhere = [
        f"the {other}'s, {path!r}"
        for other, own in models.items()
        for path in (taps.path_of(model, layer) for model in own)
        if path is not None
    ]
    where = f"It is {elsewhere[0]}." if elsewhere else "It is of neither model (a copy is another)."
    known = [model.name for model in models.get(role, ())]
    has = f"{role} {', '.join(known)}" if known else f"{role}, which is no Keras model here"
    raise ValueError(
        f'{loss!r} was given layer "{layer.name}" as one of the {has}. {where} Give a layer of the '
        f"{role}, such as {role}.get_layer(NAME), or a name; tfkd layers MODEL lists them."
    )


def answer_of_all(knowledge, name):
    """What the teacher says; of several teachers what the mean of their probabilities says.

    Args:
        knowledge: {name: tensor} of the teacher.
        name: of an output or layer.

    Returns:
        The tensor; of several teachers' outputs log-probabilities (log-odds of a single number) of
        their mean by the members' weights, shape (batch, ..., classes).
    """
    tensor = knowledge[name]
    if weights_name(name) not in knowledge:
        return tensor
    weights = _beside(knowledge[weights_name(name)], tensor)
    if tensor.shape[-1] == 1:
        positive = tf.reduce_sum(weights * tf.sigmoid(tensor), axis=1)
        negative = tf.reduce_sum(weights * tf.sigmoid(-tensor), axis=1)
        return tf.math.log(positive) - tf.math.log(negative)
    return tf.math.log(tf.reduce_sum(weights * tf.nn.softmax(tensor), axis=1))


def resolved_name(name, shapes, role, reader):
    """The name of the tensor that a loss or metric reads, of those that a model gives; or a tuple.

    Args:
        name: a name, None for the only output, an integer for an output by position, or a tuple.
        shapes: {name: shape} of what there is, outputs first.
        role: "teacher" or "student".
        reader: what reads, with a `name`.

    Raises:
        ValueError: there is no such tensor.
    """
    if isinstance(name, tuple):
        return tuple(resolved_name(part, shapes, role, reader) for part in name)
    names = list(shapes)
    outputs = [OUTPUT] if OUTPUT in shapes else names
    if isinstance(name, int) and name < len(outputs):
        return outputs[name]
    name = OUTPUT if name is None else name
    if name in shapes:
        return name
    raise ValueError(
        f"{reader.name} reads {name!r} of the {role}, which gives {names}. Name one of them as "
        f"{role}_layer_name, or give loss= as a list or dict with one entry for each output."
    )


def _are_several(loss, names, shapes):
    """Whether a loss reads an output of several teachers; ValueError where it cannot."""
    if loss.taught_by != "teacher" or not any(weights_name(n) in shapes for n in _several(names)):
        return False
    if isinstance(names, tuple):
        raise ValueError(_needs_one_teacher(loss, "reads several tensors at once"))
    return True


def _needs_one_teacher(loss, why):
    return (
        f"{loss.name} reads an output of several teachers, but {why}, which it does for one "
        'teacher: name the member, as in teacher_layer_name="0/output", and give each member a '
        "loss object of its own."
    )


def _each(answers, weights, sample_weight):
    """[(answer, weights of the examples)] of several teachers.

    Args:
        answers: shape (batch, members, ...).
        weights: shape (batch, members).
        sample_weight: None, or shape (batch, ...).
    """
    shares = tf.unstack(tf.cast(weights, tf.float32), axis=1)
    if sample_weight is not None:
        given = tf.cast(sample_weight, tf.float32)
        shares = [given * _beside(share, given) for share in shares]
    return list(zip(tf.unstack(answers, axis=1), shares, strict=True))


def _beside(weights, tensor):
    """Weights with as many axes as a tensor, whose first ones are theirs."""
    return weights[(..., *[tf.newaxis] * (len(tensor.shape) - len(weights.shape)))]


def _several(names):
    return names if isinstance(names, tuple) else (names,)


def _read(tensors, names):
    """One tensor (or shape) by its name, a tuple of them by a tuple of names."""
    if isinstance(names, tuple):
        return tuple(tensors[name] for name in names)
    return tensors[names]


def _heads(known, names):
    if isinstance(names, tuple):
        return tuple(known.get(name, Head()) for name in names)
    return known.get(names, Head())


def of_output(given, names, tensors):
    """What the data gives an output: weights or labels, where they differ between outputs."""
    if isinstance(given, list | tuple):  # one for each output, in their order
        given = dict(zip(tensors, given, strict=False))
    return given.get(_several(names)[0]) if isinstance(given, dict) else given
