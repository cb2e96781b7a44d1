"""The distillation losses of one Distiller, wired to the tensors that they read."""

import tensorflow as tf

from tfkd import checks
from tfkd.taps import OUTPUT


class Terms:
    """Every loss's comparisons, each of a named tensor of the teacher with one of the student.

    Losses declare what else they need: several tensors a side, the student's own tensors for the
    teacher's, labels (see `tfkd.losses.DistillationLoss`).

    Args:
        losses: list of `tfkd.losses.DistillationLoss`.
        adapters: `tfkd.adapters.Adapters`, filled when the shapes are known.
    """

    def __init__(self, losses, adapters):
        self.losses = tuple(losses)
        self.knowledge_shapes = None  # {name: shape}, once connected
        self._adapters = adapters
        self._terms = [(i, *term) for i, loss in enumerate(losses) for term in loss.terms()]

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
        return any(loss.taught_by == "teacher" for _, loss, _, _ in self._terms)

    def names(self, role):
        """Names that the losses read of the "teacher" or the "student", where they give any."""
        read = [taught for _, loss, taught, _ in self._terms if loss.taught_by == role]
        if role == "student":
            read += [learnt for _, _, _, learnt in self._terms]
        return sorted({name for names in read for name in _several(names) if isinstance(name, str)})

    def connect(self, knowledge_shapes, student_shapes):
        """Resolves names, checks shapes and builds adapters.

        Args:
            knowledge_shapes: {name: shape with batch} of the teacher's tensors.
            student_shapes: the same for the student.

        Raises:
            ValueError: a name that there is not, or shapes that cannot be compared.
        """
        resolved = []
        shapes = {"teacher": knowledge_shapes, "student": student_shapes}
        for key, (index, loss, taught, learnt) in enumerate(self._terms):
            teaching = shapes[loss.taught_by]
            taught = _resolved(taught, teaching, loss.taught_by, loss)
            learnt = _resolved(learnt, student_shapes, "student", loss)
            wanted, given = _read(teaching, taught), _read(student_shapes, learnt)
            if loss.adapts:
                self._adapters.add(key, given, wanted)
            else:
                loss.check_shapes(wanted, given)
            resolved.append((index, loss, taught, learnt))
        self._terms = resolved
        self.knowledge_shapes = {name: tuple(shape) for name, shape in knowledge_shapes.items()}

    def __call__(self, knowledge, tensors, sample_weight=None, labels=None):
        """The value of each loss on one batch, a list of float32 scalars.

        Args:
            knowledge: {name: tensor} of the teacher.
            tensors: {name: tensor} of the student.
            sample_weight: optional tensor of shape (batch,); or, for several outputs, a list or
                {output name: tensor}, which weigh losses on outputs and no hints.
            labels: what the data gives, one for all outputs or one for each, or None.
        """
        values = [0.0] * len(self.losses)
        for key, (index, loss, taught, learnt) in enumerate(self._terms):
            own = loss.taught_by == "student"
            missing = [] if own else [name for name in _several(taught) if name not in knowledge]
            if missing:
                raise ValueError(
                    f'The knowledge stored with the data has no "{missing[0]}", which {loss.name} '
                    f"reads; it has {sorted(knowledge)}. Store it anew with this tap."
                )
            teacher = _read(tensors if own else knowledge, taught)
            if own:
                teacher = tf.nest.map_structure(tf.stop_gradient, teacher)
            student = self._adapters.adapt(key, _read(tensors, learnt))
            value = loss(
                teacher,
                student,
                _of_output(sample_weight, learnt, tensors),
                labels=_of_output(labels, learnt, tensors),
            )
            values[index] += value if own else checks.finite(teacher, taught, value)
        return values


def _several(names):
    return names if isinstance(names, tuple) else (names,)


def _read(tensors, names):
    """One tensor (or shape) by its name, a tuple of them by a tuple of names."""
    if isinstance(names, tuple):
        return tuple(tensors[name] for name in names)
    return tensors[names]


def _of_output(given, names, tensors):
    """What the data gives an output: weights or labels, where they differ between outputs."""
    if isinstance(given, list | tuple):  # one for each output, in their order
        given = dict(zip(tensors, given, strict=False))
    return given.get(_several(names)[0]) if isinstance(given, dict) else given


def _resolved(name, shapes, role, loss):
    """The name of the tensor that a loss reads, of those that the model gives; or a tuple."""
    if isinstance(name, tuple):
        return tuple(_resolved(part, shapes, role, loss) for part in name)
    names = list(shapes)
    outputs = [OUTPUT] if OUTPUT in shapes else names
    if isinstance(name, int) and name < len(outputs):
        return outputs[name]
    name = OUTPUT if name is None else name
    if name in shapes:
        return name
    raise ValueError(
        f"{loss.name} reads {name!r} of the {role}, which gives {names}. Name one of them as "
        f"{role}_layer_name, or give loss= as a list or dict with one entry for each output."
    )
