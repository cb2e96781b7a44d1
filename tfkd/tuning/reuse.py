"""Trials that share one compiled Distiller: its variables are set back, its learning rate is moved.

Three parts: what a factory asked of the hyperparameters (equal answers make equal models), an
optimizer whose learning rate can be set, and the Distiller that goes back to its first values.
"""

import contextlib
import copy

import keras
import numpy as np
import tensorflow as tf

from tfkd import _keras

_MISSING = object()


class AskedHyperparameters:
    """What a factory asked of `hp`, and what it was answered.

    A factory that is given the same answers asks the same questions and builds the same thing.

    Attributes:
        answers: {name: value}; with what a condition depended on.
    """

    def __init__(self):
        self.answers = {}
        self._space, self._active, self._inactive = [], [], []

    def __bool__(self):
        return bool(self.answers)

    @contextlib.contextmanager
    def record(self, hp):
        """Notes what is asked of `hp` (`keras_tuner.HyperParameters`) while it is open."""
        values, asked = hp.values, set()
        active, inactive = len(hp.active_scopes), len(hp.inactive_scopes)
        hp.values = _RecordingDict(values, asked)
        try:
            yield
        finally:
            recording, hp.values = hp.values, values
            values.clear()
            values.update(dict.items(recording))  # of dict itself: this is no question
        self.answers = {name: values.get(name, _MISSING) for name in asked}
        self._space = list(hp.space)
        self._active = copy.deepcopy(hp.active_scopes[active:])
        self._inactive = copy.deepcopy(hp.inactive_scopes[inactive:])

    def same_answers(self, hp):
        """Whether `hp` would answer every question as before."""
        return all(hp.values.get(name, _MISSING) == value for name, value in self.answers.items())

    def repeat(self, hp):
        """Leaves in `hp` what asking again would leave: entries of the space, and conditions."""
        hp.merge(self._space, overwrite=False)
        hp.active_scopes.extend(copy.deepcopy(self._active))
        hp.inactive_scopes.extend(copy.deepcopy(self._inactive))


class _RecordingDict(dict):
    """A dict that notes whose values are read."""

    def __init__(self, values, asked):
        super().__init__(values)
        self._asked = asked

    def __getitem__(self, name):
        self._asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name):
        self._asked.add(name)
        return super().__contains__(name)

    def get(self, name, default=None):
        self._asked.add(name)
        return super().get(name, default)

    def __iter__(self):
        self._asked.update(super().keys())
        return super().__iter__()

    def keys(self):
        self._asked.update(super().keys())
        return super().keys()

    def items(self):
        self._asked.update(super().keys())
        return super().items()

    def values(self):
        self._asked.update(super().keys())
        return super().values()


class AdjustableOptimizer:
    """An optimizer whose learning rate can be set anew, without a retrace.

    The optimizer is made for two rates. What differs between the two is what the rate decides: the
    learning rate itself, or numbers of its schedule (a cosine's first rate, a warm-up's target),
    which are replaced by variables. Where anything else differs (a weight decay computed from the
    rate, say), the optimizer cannot follow.

    Args:
        make: function of the learning rate, a float, that returns a new optimizer.
        value: the learning rate.
        other: another one to compare with, or None for a rate that never changes.

    Attributes:
        optimizer: the optimizer made for `value`.

    Raises:
        ValueError: `make` does not return a Keras optimizer.
    """

    def __init__(self, make, value, other=None):
        self._make, self._value = make, value
        self.optimizer = self._made(value)
        self._variables = {}  # {attribute of the schedule: variable}
        self._follows = other is not None and self._bind(self._made(other))

    def reaches(self, value):
        """Whether the optimizer can be set to that learning rate."""
        return self._follows or value == self._value

    def set(self, value):
        """Makes the optimizer what `make(value)` would return."""
        if not self._follows:
            return
        if not self._variables:
            self.optimizer.learning_rate = value
            return
        schedule = _rate_of(self._made(value))
        for name, variable in self._variables.items():
            variable.assign(getattr(schedule, name))

    def _made(self, value):
        optimizer = self._make(float(value))
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(
                "optimizer must be a function of the learning rate that returns a Keras optimizer, "
                f"such as keras.optimizers.Adam; it returned {optimizer!r}."
            )
        return optimizer

    def _bind(self, other):
        """Puts variables where the two optimizers differ; False where that is impossible."""
        mine, theirs = _rate_of(self.optimizer), _rate_of(other)
        if _settings(self.optimizer) != _settings(other) or type(mine) is not type(theirs):
            return False
        if isinstance(mine, keras.Variable):
            return True
        if not isinstance(mine, keras.optimizers.schedules.LearningRateSchedule):
            return False
        before = dict(vars(mine))
        differing = [name for name in before if before[name] != vars(theirs)[name]]
        if not differing or not all(isinstance(before[name], float) for name in differing):
            return False
        for name in differing:
            self._variables[name] = tf.Variable(before[name], dtype=tf.float32, trainable=False)
            setattr(mine, name, self._variables[name])
        if not _traceable(mine):  # a schedule that computes with plain numbers
            vars(mine).update(before)
            self._variables.clear()
            return False
        mine.get_config = self._config  # of numbers, so that the optimizer can be saved
        return True

    def _config(self):
        schedule = _rate_of(self.optimizer)
        numbers = {name: float(variable) for name, variable in self._variables.items()}
        return {**type(schedule).get_config(schedule), **numbers}


def _rate_of(optimizer):
    """The variable, schedule or function behind an optimizer's learning rate."""
    return optimizer._learning_rate  # the public property gives a schedule's current value


def _settings(optimizer):
    """What an optimizer is besides its learning rate."""
    return {k: v for k, v in optimizer.get_config().items() if k not in ("learning_rate", "name")}


def _traceable(schedule):
    """Whether a schedule runs in a graph on what it holds now."""
    try:
        step = tf.TensorSpec((), tf.int64)
        tf.function(lambda at: schedule(at), autograph=False).get_concrete_function(step)
    except Exception:  # whatever a user's schedule raises on a tensor in a number's place
        return False
    return True


class ReusableDistiller:
    """A compiled Distiller that can be set back to what it was when it was new.

    Making a model anew means tracing and compiling its steps anew, and TensorFlow does not give
    back all memory that the old one held. Here the variables are set back instead: student (moving
    statistics and the seeds of dropout included), adapters, optimizer.

    Args:
        make: function that returns (a `tfkd.Distiller`, built and compiled, and its
            `AdjustableOptimizer`).
        seed: of the initial weights.

    Attributes:
        distiller: the Distiller.
        seed: what it was made or reset from.
        repeatable: False once its train step is known to draw random numbers that no variable of
            it decides: `tf.random.*` in a layer (their seeds are part of the graph), `keras.random`
            without a seed or `SeedGenerator` (they come from Keras's global one). What such a step
            gives depends on the trainings before, so it serves one training only.
    """

    def __init__(self, make, seed):
        self.seed, self.repeatable = seed, True
        self.distiller, self._optimizer = _new(make, seed)
        self._compiled_with = self.distiller.optimizer
        self._initial = {seed: _values(self.distiller)}
        step = self.distiller.train_step

        def observed(data):
            logs = step(data)
            if not tf.executing_eagerly():
                graph = tf.compat.v1.get_default_graph()
                self.repeatable &= not _draws_in_graph(graph)
            return logs

        object.__setattr__(self.distiller, "train_step", observed)  # Keras need not track it

    def can_have(self, rate):
        """Whether the Distiller can be given a learning rate, and is compiled as it was made.

        (A tuner that is given an optimizer, say, compiles each Distiller anew.)
        """
        return self._optimizer.reaches(rate) and self.distiller.optimizer is self._compiled_with

    def reset(self, seed, rate, make):
        """Sets every variable to what it is in a new Distiller.

        Args:
            seed: of the initial weights.
            rate: the learning rate.
            make: makes such a Distiller, for a seed that was not met before.
        """
        if seed not in self._initial:
            self._initial[seed] = _values(_new(make, seed)[0])
        for variable, value in zip(state(self.distiller), self._initial[seed], strict=True):
            variable.assign(value)
        self._optimizer.set(rate)
        self.seed = seed


def state(distiller):
    """Every variable that training moves, metrics apart: those start anew each epoch.

    Returns:
        list of variables, in an order that is the same for every Distiller made in the same way.
    """
    return [
        *distiller.student.variables,
        *distiller.adapters.variables,
        *distiller.optimizer.variables,
    ]


def uses_global_generator():
    """Whether Keras's global random generator was used since `keras.utils.set_random_seed`.

    Then something drew from `keras.random` without a seed. (There is no public way to know.)
    """
    return _keras.has_global_seed_generator()


def _draws_in_graph(graph):
    """Whether a graph holds operations that draw random numbers from a state of their own."""
    definition = graph.as_graph_def()
    functions = definition.library.function
    nodes = [*definition.node, *(node for function in functions for node in function.node_def)]
    return any(node.op in _RANDOM for node in nodes)


# TensorFlow's stateful operations for random numbers.
_RANDOM = {
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "RandomGamma",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "TruncatedNormal",
}


def _new(make, seed):
    keras.utils.set_random_seed(seed)
    return make()


def _values(distiller):
    # Copies: on a CPU what Keras gives is a view of the variable's own buffer.
    return [np.copy(keras.ops.convert_to_numpy(variable)) for variable in state(distiller)]
