"""The distillation losses of one Distiller, wired to the tensors that they read."""

from tfkd import checks
from tfkd.taps import OUTPUT


class Terms:
    """Every loss's comparisons, each of one named tensor of the teacher with one of the student.

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

    def names(self, role):
        """Names that the losses read of the "teacher" or the "student", where they give any."""
        side = 2 if role == "teacher" else 3
        return sorted({term[side] for term in self._terms if isinstance(term[side], str)})

    def connect(self, knowledge_shapes, student_shapes):
        """Resolves names, checks shapes and builds adapters.

        Args:
            knowledge_shapes: {name: shape with batch} of the teacher's tensors.
            student_shapes: the same for the student.

        Raises:
            ValueError: a name that there is not, or shapes that cannot be compared.
        """
        resolved = []
        for key, (index, loss, taught, learnt) in enumerate(self._terms):
            taught = _resolved(taught, knowledge_shapes, "teacher", loss)
            learnt = _resolved(learnt, student_shapes, "student", loss)
            wanted, given = knowledge_shapes[taught], student_shapes[learnt]
            if loss.adapts:
                self._adapters.add(key, given, wanted)
            else:
                loss.check_shapes(wanted, given)
            resolved.append((index, loss, taught, learnt))
        self._terms = resolved
        self.knowledge_shapes = {name: tuple(shape) for name, shape in knowledge_shapes.items()}

    def __call__(self, knowledge, tensors, sample_weight=None):
        """The value of each loss on one batch, a list of float32 scalars.

        Args:
            knowledge: {name: tensor} of the teacher.
            tensors: {name: tensor} of the student.
            sample_weight: optional tensor of shape (batch,); or, for several outputs, a list or
                {output name: tensor}, which weigh losses on outputs and no hints.
        """
        if isinstance(sample_weight, list | tuple):  # one for each output, in their order
            sample_weight = dict(zip(tensors, sample_weight, strict=False))
        values = [0.0] * len(self.losses)
        for key, (index, loss, taught, learnt) in enumerate(self._terms):
            if taught not in knowledge:
                raise ValueError(
                    f'The knowledge stored with the data has no "{taught}", which {loss.name} '
                    "reads; "
                    f"it has {sorted(knowledge)}. Store it anew with this tap."
                )
            student = self._adapters.adapt(key, tensors[learnt])
            weight = sample_weight
            if isinstance(sample_weight, dict):
                weight = sample_weight.get(learnt)
            value = loss(knowledge[taught], student, weight)
            values[index] += checks.finite(knowledge[taught], taught, value)
        return values


def _resolved(name, shapes, role, loss):
    """The name of the tensor that a loss reads, of those that the model gives."""
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
