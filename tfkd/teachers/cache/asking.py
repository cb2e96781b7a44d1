"""What a teacher says of a batch of examples: a live one within a graph, a Python function here."""

import keras
import numpy as np
import tensorflow as tf

from tfkd import batches, head_search
from tfkd.data.seeds import view_seed
from tfkd.taps import OUTPUT

# How much of its size an answer may change with the batch that the example stands in.
_NOISE = 0.01


class Asked:
    """The teacher of a Distiller, asked what the Distiller's losses and metrics read.

    Args:
        distiller: `tfkd.Distiller` whose source may be stored; connected here, where it waited for
            data.
        augment: None, or a callable (x, seeds) -> x in `tf.function`.
        first: (indices int64, x, y) of the dataset's first examples.
        seed: of the augmentation.

    Attributes:
        first: {name: float array} of what it says of the first examples, in view 0.

    Raises:
        ValueError: answers that do not fit the losses, or that change with the batch.
    """

    def __init__(self, distiller, augment, first, seed):
        self._distiller, self.source, self._augment = distiller, distiller.source, augment
        indices, x, y = first
        seeds = view_seed(indices, 0, seed)
        seen = x if augment is None else augment(x, seeds)
        self._check_rank(seen)
        if not distiller.matching.connected:
            distiller.prepare(*batches.symbolic(seen, y)[:2])
        self._ask = self._answer
        if self.source.live:
            self._ask = tf.function(self._answer, autograph=False)
            specs = tf.nest.map_structure(_open, (x, y, seeds))
            traced = self._ask.get_concrete_function(*specs).structured_outputs
        answers = self._ask(x, y, seeds)
        if not distiller.matching.connected:
            distiller.prepare(*batches.symbolic(seen, y)[:2], knowledge=answers)
        read = set(distiller.matching.read_of_teacher)
        also = {metric.teacher_name for metric in distiller.teacher_metrics}
        also = distiller.matching.with_weights(also) & set(answers)
        self._shapes = dict.fromkeys(sorted(read | also))
        self._check_names(answers)
        self._shapes = {name: answers[name].shape[1:] for name in self._shapes}
        if self.source.live:  # other batches might give other shapes
            self._shapes = {name: traced[name].shape[1:] for name in self._shapes}
        else:
            self._check_steady(answers, x, y, seeds)
        self._check_shapes()
        self.first = {name: np.asarray(answers[name], "float32") for name in self._shapes}
        self._check_heads()

    def __call__(self, x, y, seeds):
        """{name: float tensor or array (batch, ...)} for a batch of examples.

        Args:
            x, y: structures of tensors as the dataset holds them, batched.
            seeds: int64 tensor, shape (batch, 2), of the augmentation.

        Raises:
            ValueError: a Python function forgot a name, or gives other shapes than at first.
        """
        answers = self._ask(x, y, seeds)
        if not self.source.live:
            self._check_names(answers)
            for name, shape in self._shapes.items():
                if answers[name].shape[1:] != shape:
                    raise ValueError(
                        f'The teacher gave "{name}" in the shape {answers[name].shape}, but '
                        f"{(None, *shape)} for the first examples. It must give one shape for "
                        "every example."
                    )
        return {name: answers[name] for name in self._shapes}

    def tensors(self, dtype, top_k):
        """{name: {"shape", "dtype", "top_k", "head"}} as the manifest says it.

        Raises:
            ValueError: the largest logits would be stored of what is no choice of one class.
        """
        found = {}
        for name, shape in self._shapes.items():
            head = self.source.heads.get(name)
            output = name in self.source.output_names
            kept = top_k if top_k and output and len(shape) and shape[-1] > top_k else None
            if kept:
                self._check_top_k(name, head)
            kind, labels = (head.kind, head.labels) if head else (None, None)
            found[name] = {
                "shape": [int(size) for size in shape],
                "dtype": dtype,
                "top_k": kept,
                "head": {"kind": kind, "labels": labels},
            }
        return found

    def _answer(self, x, y, seeds):
        seen = x if self._augment is None else self._augment(x, seeds)
        if self._distiller.separate_inputs:
            seen = batches.own_inputs(seen)[0]
        return self.source(seen, y) if self.source.live else self.source.answer(seen, y)

    def _check_rank(self, seen):
        """Data that is batched already shows by an axis too many for the student."""
        own = batches.own_inputs(seen)[1] if self._distiller.separate_inputs else seen
        wanted = self._distiller.taps.signature
        given, wanted = keras.tree.flatten(own), keras.tree.flatten(wanted)
        if len(given) == len(wanted) == 1 and wanted[0] is not None:
            found, fitting = given[0].shape, wanted[0].shape
            if found.rank == fitting.rank + 1 and found[-1] != 1:
                raise ValueError(
                    "A teacher cache needs unbatched examples, but one of the dataset has shape "
                    f"{found[1:]}, where the student takes {fitting[1:]}. If the dataset is "
                    "batched, pass dataset.unbatch()."
                )

    def _check_names(self, answers):
        missing = [name for name in self._shapes if name not in answers]
        if missing:
            raise ValueError(
                f"The losses read {missing} of the teacher, which gives {sorted(answers)}. Have it "
                'give {"output": ..., ' + ", ".join(f'"{name}": ...' for name in missing) + "}."
            )
        if batches.INDEX in self._shapes:
            raise ValueError(
                f'The losses read "{batches.INDEX}" of the teacher, but this is the name of the '
                "examples' numbers. Give the layer another name."
            )

    def _check_shapes(self):
        wanted = self._distiller.matching.knowledge_shapes
        for name, shape in self._shapes.items():
            if not tf.TensorShape(shape).is_fully_defined():
                raise ValueError(
                    f'The teacher\'s "{name}" has shape {(None, *shape)} on these inputs: only the '
                    "batch may be open in a cache. Give the model a fixed input size, or tap "
                    "another layer."
                )
            if name in wanted and not tf.TensorShape(shape).is_compatible_with(wanted[name][1:]):
                raise ValueError(
                    f'The teacher\'s "{name}" has shape {(None, *shape)}, but this Distiller was '
                    f"built for {wanted[name]}. Make a new Distiller."
                )

    def _check_steady(self, answers, x, y, seeds):
        """A function that is no function of each example: dropout or batch statistics are on."""
        half = len(seeds) // 2
        again = self._ask(*keras.tree.map_structure(lambda part: part[half:], (x, y, seeds)))
        self._check_names(again)
        for name in self._shapes:
            first, second = answers[name][half:], again[name]
            fit = first.shape == second.shape
            if not fit or np.abs(first - second).mean() > _NOISE * np.abs(first).mean():
                raise ValueError(
                    f'The teacher\'s "{name}" of an example changes from call to call or with the '
                    "other examples of the batch, so that it cannot be stored. Switch it to "
                    "inference (model.eval() in PyTorch)."
                )

    def _check_heads(self):
        """Asks what an output is before the work, as the losses would at their first step."""
        for name in self._distiller.matching.unknown_logits(self.source.heads):
            if head_search.measure(self.first[name]) in ("unit", "distribution"):
                given = f'{{"{name}": ...}}' if name != OUTPUT else "..."
                raise ValueError(
                    f'All numbers of the teacher\'s "{name}" lie between 0 and 1, and nothing '
                    "tells whether they are probabilities. Say so: Distiller(..., teacher_head="
                    f"{given}), or CallableTeacher(..., head={given}), takes "
                    '"probabilities" (one class of many), "independent_probabilities", "logits" or '
                    '"numbers".'
                )

    def _check_top_k(self, name, head):
        student = self._distiller.taps.heads_under(self._distiller.loss).get(name)
        for side, known in (("teacher", head), ("student", student)):
            if known is not None and (known.labels == "independent" or known.kind == "numbers"):
                said = known.kind if known.kind == "numbers" else "independent labels"
                raise ValueError(
                    f'top_k stores the largest logits of one class of many, but "{name}" of the '
                    f"{side} holds {said}, of which every one counts. Leave top_k out."
                )


def check(distiller):
    """Raises ValueError unless what stands for the teacher may be stored."""
    source = distiller.source
    if distiller.teacher is None:
        raise ValueError(
            "TeacherCache.build runs the distiller's teacher, but this Distiller has none. Build "
            "with Distiller(teacher, ...); reading needs no teacher."
        )
    if not source.storable:
        raise ValueError(
            f"{type(source).__name__} cannot be stored: its answer to an input does not stay the "
            "same while students train (it says storable = False). Train with it live."
        )


def _open(tensor):
    return None if tensor is None else tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype)
