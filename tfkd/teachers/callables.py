"""A Python function as teacher, which only a cache asks."""

from collections.abc import Callable

import keras
import numpy as np

from tfkd import head_search, taps
from tfkd.heads import GivenHead
from tfkd.teachers.source import StoredKnowledge


class CallableTeacher(StoredKnowledge):
    """Any function from a batch of inputs to arrays: a PyTorch or ONNX model, an API.

    Only `tfkd.TeacherCache.build` calls it; students learn from what is stored.

    ```python
    def answers(images):                              # NumPy array, uint8 or float32
        with torch.no_grad():
            return model(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()

    teacher = tfkd.teachers.CallableTeacher(answers, name="resnet50-v2")
    distiller = tfkd.Distiller(teacher, student, losses)
    tfkd.TeacherCache.build("cache", distiller, train)
    ```

    Args:
        function: (inputs as NumPy arrays) -> one array (batch, ...) or {name: array}.
        name: what tells this teacher from others, as a function has no weights to look at; by
            default the function's own name.
        head: what its outputs mean, as in `tfkd.taps.Taps`; by default they are measured when they
            are first seen: rows that are distributions are probabilities, numbers outside of 0 to 1
            are logits, and what lies between is asked for.
    """

    storable = True

    def __init__(self, function: Callable, name: str | None = None, head: GivenHead = None):
        super().__init__(head)
        self.function = function
        self.name = name or getattr(function, "__qualname__", type(function).__name__)
        self._function_heads = self.heads  # what the function gives; `heads` is what comes of it
        self.heads = {output: head.as_logits() for output, head in self.heads.items()}

    def answer(self, x, labels=None):
        """{name: float32 array (batch, ...)} for a batch; outputs of probabilities as logits.

        Args:
            x: structure of arrays, the batch first.
            labels: not read.

        Raises:
            ValueError: an answer that is no array of numbers with one row an example.
        """
        x = keras.tree.map_structure(np.array, x)  # copies, which it may write to
        rows = len(keras.tree.flatten(x)[0])
        given = self.function(x)
        if isinstance(given, tuple):  # NumPy would stack arrays of one shape
            raise ValueError(
                f'The teacher "{self.name}" gave a tuple of {len(given)}, which names nothing. '
                'Give one array, or {"output": array, "name of a feature": array}.'
            )
        given = given if isinstance(given, dict) else {taps.OUTPUT: given}
        return {name: self._checked(name, values, rows) for name, values in given.items()}

    @property
    def given(self):
        return self

    def identity(self):
        return {"function": self.name}

    def answer_to(self, x, batch, names, training):
        if batch.knowledge is not None or not names:
            return super().answer_to(x, batch, names, training)
        raise ValueError(
            f'The teacher "{self.name}" is a Python function, which no train step can call. Store '
            "its answers once with tfkd.TeacherCache.build(directory, distiller, dataset), and fit "
            "on tfkd.TeacherCache(directory).dataset(...)."
        )

    def _checked(self, name, values, rows):
        values = np.asarray(values)
        if values.dtype.kind not in "fiu" or not values.ndim or len(values) != rows:
            raise ValueError(
                f'The teacher "{self.name}" gave "{name}" as an array of {values.dtype} with shape '
                f"{values.shape} for {rows} inputs. It must give numbers, with one row an input."
            )
        values = values.astype("float32")
        head = self._function_heads.get(name)
        if head is not None and head.kind is None:
            head = head_search.head(head_search.Found(None), lambda: head_search.measure(values))
            self._function_heads[name], self.heads[name] = head, head.as_logits()
        known = head is not None and head.kind == "probabilities"
        return head.logits(values).numpy() if known else values
