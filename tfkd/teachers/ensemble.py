"""Several teachers as one source, whose answers stay apart until a loss reads them."""

import difflib
import os
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfkd import validation
from tfkd.batches import weights_name
from tfkd.matching import of_output
from tfkd.taps import OUTPUT
from tfkd.teachers import weighing
from tfkd.teachers.given import source_of
from tfkd.teachers.members import (
    check,
    named,
    shared_head,
    shared_outputs,
    shared_signature,
)
from tfkd.teachers.source import Source


@keras.saving.register_keras_serializable(package="tfkd")
class Ensemble(Source):
    """Several teachers of one student, each asked by itself.

    A loss that reads "output" compares the student with every member, and its values are summed
    with the members' weights. For `LogitsDistillation` this has the gradient of one teacher whose
    softened probabilities are the weighted mean of the members'.

    ```python
    teachers = tfkd.teachers.Ensemble({"cnn": cnn, "vit": vit}, weights="confidence")
    distiller = tfkd.Distiller(teachers, student, tfkd.losses.LogitsDistillation(4.0))
    ```

    A member's own tensors are "cnn/output" and its layers "cnn/stage1_out", for hints. Everything
    can be stored by `tfkd.TeacherCache`, the weights with it. With a Python function among the
    members the whole ensemble answers only there.

    Where one answer of all is shown (`tfkd.metrics.TeacherAgreement`) it is the weighted mean of
    the members' probabilities.

    Args:
        members: teachers as a Distiller takes them (models, functions, sources); a list, whose
            members are called "0", "1", ..., or {name: teacher}.
        weights: for each example, summing to 1:
            None, all members alike;
            numbers >= 0, one a member, of which the shares count;
            "confidence", by the cross-entropy with the label (CA-MKD);
            "entropy", by how sure a member is;
            "correct", the members that have the label right, or all where none has.

    Raises:
        ValueError: no members, names that are no names, weights that do not fit; members that take
            different inputs or know different classes. In a step: labels are missing that weights
            need, or a member is not finite.
    """

    def __init__(
        self,
        members: Sequence | Mapping,
        weights: str | Sequence[float] | None = None,
    ):
        self.members = {name: source_of(member) for name, member in named(members).items()}
        for name, member in self.members.items():
            if isinstance(member, Ensemble) or not member.storable:
                raise ValueError(
                    f'The member "{name}" of the Ensemble is {type(member).__name__}. Give models, '
                    "functions or sources whose answers stay the same while students train; the "
                    "members of another ensemble one by one."
                )
        self.weights = weighing.checked(weights, self.members)
        needs = {need for member in self._all for need in member.needs}
        self.needs = tuple(
            sorted(needs | ({"labels"} if self.weights in weighing.OF_LABELS else set()))
        )
        self.live = all(member.live for member in self._all)
        self._traced = set()

    @property
    def _all(self):
        return list(self.members.values())

    @property
    def ready(self):
        return not self.live or super().ready

    @property
    def output_names(self):
        """Outputs that every member gives, and each member's own."""
        own = [f"{name}/{o}" for name, member in self.members.items() for o in member.output_names]
        return (*shared_outputs(self.members), *own)

    @property
    def heads(self):
        """{name: `tfkd.heads.Head`}, of an output what its members say of it together."""
        shared = {
            output: shared_head(self.members, output) for output in shared_outputs(self.members)
        }
        own = {
            f"{name}/{tensor}": head
            for name, member in self.members.items()
            for tensor, head in member.heads.items()
        }
        return {**shared, **own}

    def tap(self, names):
        shared, taps = [], {name: [] for name in self.members}
        for name in names:
            member, slash, tensor = name.partition("/")
            if slash and member in taps:
                taps[member].append(tensor)
            else:
                shared.append(name)
        for name, own in taps.items():
            self.members[name].tap(own)
        for name in shared:
            if name != OUTPUT and not any(name in member.output_names for member in self._all):
                raise ValueError(self._unknown(name))

    def signature(self):
        found = {name: member.signature() for name, member in self.members.items()}
        known = {name: own for name, own in found.items() if own is not None}
        merged = shared_signature(known)
        return merged if len(known) == len(found) or not self.live else None

    def trace(self, signature):
        if not self.live:
            return None
        shapes = {name: member.trace(signature) for name, member in self.members.items()}
        if None in shapes.values():
            return None
        self._traced = set(shapes)
        check(self.members, shapes, self.weights)
        found = {}
        for output in shared_outputs(self.members):
            shape = next(iter(shapes.values()))[output]
            found[output] = (shape[0], len(shapes), *shape[1:])
        found |= {
            weights_name(output): (None, len(shapes)) for output in shared_outputs(self.members)
        }
        for name, own in shapes.items():
            found |= {f"{name}/{tensor}": shape for tensor, shape in own.items()}
        return found

    def call(self, x, labels=None):
        answers = {
            name: member.call(x, labels) if "labels" in member.needs else member.call(x)
            for name, member in self.members.items()
        }
        return self._together(answers, labels)

    def answer(self, x, labels=None):
        """What `call` gives, as arrays, where a member is a Python function.

        Raises:
            ValueError: a member's answer is no array, not finite, or of other classes.
        """
        self._needed(labels)
        answers = {}
        for name, member in self.members.items():
            if not member.live:
                answers[name] = member.answer(x, labels)
                continue
            if name not in self._traced:
                member.trace(keras.tree.map_structure(_spec, x))
                self._traced.add(name)
            answers[name] = member(x, labels)
        shapes = {n: {t: v.shape for t, v in own.items()} for n, own in answers.items()}
        check(self.members, shapes, self.weights)
        with validation.explained():
            return {name: np.asarray(t) for name, t in self._together(answers, labels).items()}

    def answer_to(self, x, batch, names, training):
        if self.live or batch.knowledge is not None or not names:
            return super().answer_to(x, batch, names, training)
        functions = [member for member in self._all if not member.live]
        return functions[0].answer_to(x, batch, names, training)  # says what to do

    def models(self):
        return [model for member in self._all for model in member.models()]

    def serialized(self):
        # A function cannot be in a file: a Distiller with one is restored without its teachers.
        return super().serialized() if self.live else None

    def identity(self):
        members = {name: member.identity() for name, member in self.members.items()}
        return {"ensemble": list(members), "members": list(members.values()), **self._settings()}

    def save(self, directory):
        for name, member in zip(self._folders(directory), self._all, strict=True):
            os.makedirs(name)
            member.save(name)

    def load(self, directory):
        for name, member in zip(self._folders(directory), self._all, strict=True):
            member.load(name)

    def get_config(self):
        members = [keras.saving.serialize_keras_object(member) for member in self._all]
        return {"names": list(self.members), "members": members, **self._settings()}

    @classmethod
    def from_config(cls, config):
        members = [keras.saving.deserialize_keras_object(one) for one in config["members"]]
        return cls(dict(zip(config["names"], members, strict=True)), config["weights"])

    def _settings(self):
        return {"weights": self.weights}

    def _folders(self, directory):
        return [os.path.join(directory, f"member_{i}") for i in range(len(self.members))]

    def _together(self, answers, labels):
        """{name: tensor} of all: outputs stacked on axis 1, their weights, and members' own."""
        outputs, found = shared_outputs(self.members), {}
        given = {
            f"{output} of the member {name}": own[output]
            for name, own in answers.items()
            for output in outputs
        }
        with tf.control_dependencies([validation.finite(_tensors(given))]):
            for output in outputs:
                each = [tf.cast(own[output], tf.float32) for own in answers.values()]
                found[output] = tf.stack(each, axis=1)
        for output in outputs:
            own = of_output(labels, output, dict.fromkeys(outputs))
            found[weights_name(output)] = weighing.weights_of(self.weights, found[output], own)
        for name, own in answers.items():
            found |= {f"{name}/{tensor}": values for tensor, values in own.items()}
        return found

    def _unknown(self, name):
        known = [f"{member}/{tensor}" for member in self.members for tensor in (OUTPUT, "...")]
        member, slash, tensor = name.partition("/")
        near = difflib.get_close_matches(member, self.members, n=1) if slash else []
        meant = f' Did you mean "{near[0]}/{tensor}"?' if near else ""
        return (
            f'A loss reads "{name}" of an Ensemble, which gives "{OUTPUT}" and what its members '
            f"give, by their names: {', '.join(known)}.{meant}"
        )


def _tensors(given):
    return {name: tf.convert_to_tensor(values) for name, values in given.items()}


def _spec(part):
    return tf.TensorSpec((None, *part.shape[1:]), part.dtype)
