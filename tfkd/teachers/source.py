"""What stands for the teacher in a Distiller, and knowledge that comes with the data."""

import keras
import tensorflow as tf

from tfkd import taps
from tfkd.heads import Head


class Source:
    """Gives named tensors for a batch of inputs: a teacher, several, one that learns.

    A subclass writes `trace` and `call`, and says in the attributes what else is true of it. To be
    saved with a Distiller it is registered (`keras.saving.register_keras_serializable`), has a
    `get_config`, and keeps what it has learnt in `save` and `load`.

    Attributes:
        given: what `Distiller.teacher` shows.
        needs: names of what `call` gets by keyword beside the inputs, of "labels".
        storable: whether the answer to an input is always the same, so that it may be stored.
        live: whether a train step may ask it. One that is storable and not live has `answer(x,
            labels)`, which `tfkd.TeacherCache.build` calls with arrays.
        output_names: which of its tensors are outputs, of which the largest logits may be stored
            alone.
        heads: {name: `tfkd.heads.Head`} of what it gives, as far as that is known.
        metrics: list of `keras.metrics.Metric` that the Distiller reports and resets; those of a
            source that learns only while it trains.
        optimizer: of a source that learns, which no student may share; else None.
        variables: of a source that learns, all that its steps change, for checkpoints.
    """

    needs = ()
    storable = True
    live = True
    output_names = (taps.OUTPUT,)
    heads = {}
    metrics = ()
    optimizer = None
    variables = ()

    @property
    def given(self):
        return self

    @property
    def ready(self):
        """Whether what it takes is known without data."""
        return self.signature() is not None

    def tap(self, names):
        """Told the names that will be read; raises ValueError for one that it cannot give."""

    def signature(self):
        """The structure of `tf.TensorSpec` that it takes, or None where only data can tell."""

    def trace(self, signature):
        """{name: shape with batch} of all that it gives for such inputs; None if data must tell."""
        raise NotImplementedError

    def call(self, x, labels=None):
        """{name: tensor (batch, ...)} for inputs `x`; `labels` only where `needs` says so."""
        raise NotImplementedError

    def rewritten(self, batch, student, progress):
        """The batch that a train step is of; unless told the batch as the data gives it.

        Args:
            batch: `tfkd.batches.Batch`.
            student: function of inputs to the student's {name: tensor}, in inference mode.
            progress: share of the training that is done, a scalar from 0 to 1.
        """
        return batch

    def learn(self, x, labels, sample_weight):
        """What `call` gives, in a train step, and the step that a source that learns then takes.

        `labels` and `sample_weight` are None where there are none.

        Returns:
            ({name: tensor}, step): None for the step of a source that does not learn; else a
            function of the student's {name: tensor}, no gradient into them, that trains the source.
            The Distiller calls it once the student has answered and nothing was found wrong with
            the batch: what the source gives is from before its step, so that a learning rate of 0
            gives that of a fixed teacher.
        """
        return self.call(x, **self._needed(labels)), None

    def __call__(self, x, labels=None):
        """The tensors for one batch, no gradient into them.

        Raises:
            ValueError: it needs labels, and there are none.
        """
        return _constant(self.call(x, **self._needed(labels)))

    def answer_to(self, x, batch, names, training):
        """What is known of a batch: as stored with it, else what the source says to `x`.

        Args:
            x: the teacher's input.
            batch: `tfkd.batches.Batch`.
            names: what is read of the teacher.
            training: whether this is a train step.

        Returns:
            ({name: tensor}, None where nothing is known; the source's own step, see `learn`).
        """
        stored, step = batch.knowledge, None
        if self.live and not names <= set(stored or {}):
            if training:
                tensors, step = self.learn(x, batch.y, batch.sample_weight)
            else:
                tensors = self.call(x, **self._needed(batch.y))
            read = {name: tensor for name, tensor in tensors.items() if name in names}
            return {**(stored or {}), **_constant(read)}, step
        return {} if stored is None and not names else stored, step

    def _needed(self, labels):
        unknown = set(self.needs) - {"labels"}
        if unknown:
            raise ValueError(
                f"{type(self).__name__} needs {sorted(unknown)}, which a source cannot be given. "
                'Known is "labels".'
            )
        if "labels" in self.needs and labels is None:
            raise ValueError(
                f"{type(self).__name__} needs the labels, but the data has none. Give "
                "(inputs, labels)."
            )
        return {name: labels for name in self.needs}

    def models(self):
        """The Keras models inside, none of which may be (or share layers with) the student."""
        return []

    def serialized(self):
        """Its configuration, for a saved Distiller; None for what no file can hold."""
        return keras.saving.serialize_keras_object(self)

    def identity(self):
        """What tells it from others beside the weights of `models()`: plain data, for JSON."""
        return self.serialized()

    def save(self, directory):
        """Writes its state, called while a Distiller is saved."""

    def load(self, directory):
        """Reads what `save` has written."""


class StoredKnowledge(Source):
    """No teacher: what it said comes with the data, or the student teaches itself.

    Args:
        head: what the stored outputs mean, if not logits; see `tfkd.taps.Taps`.
    """

    live, storable, ready, given = False, False, True, None

    def __init__(self, head=None):
        given = head if isinstance(head, dict) else {taps.OUTPUT: head}
        self.heads = {name: Head.get(one) for name, one in given.items()}

    def trace(self, signature):
        return None

    def serialized(self):
        return None


def _constant(tensors):
    return {name: tf.stop_gradient(tensor) for name, tensor in tensors.items()}
