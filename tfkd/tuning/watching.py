"""Which hyperparameters a factory asks for: they alone decide what it builds."""

import contextlib
import copy

_MISSING = object()


class Questions:
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
    def listen(self, hp):
        """Notes what is asked of `hp` (`keras_tuner.HyperParameters`) while it is open."""
        values, asked = hp.values, set()
        active, inactive = len(hp.active_scopes), len(hp.inactive_scopes)
        hp.values = _Watched(values, asked)
        try:
            yield
        finally:
            watched, hp.values = hp.values, values
            values.clear()
            values.update(dict.items(watched))  # of dict itself: this is no question
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


class _Watched(dict):
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
