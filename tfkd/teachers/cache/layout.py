"""One record of a teacher cache: an example's fingerprint and what the teacher says of one view.

A shard is one `.npy` file, a structured array of shape (examples, views). Its fields are the
fingerprint, and each tensor under its own name. Of a tensor stored as top-k there are three: the k
largest logits, their classes, and one logit that stands for each of the other classes.
"""

import io
import math

import numpy as np
import tensorflow as tf

FINGERPRINT = "example fingerprint"
FINGERPRINT_BYTES = 8


class Layout:
    """Which bytes of a record hold what; turns knowledge into records and records into knowledge.

    Args:
        tensors: {name: {"shape": [...], "dtype": "float16" or "float32", "top_k": None or k}}, the
            shapes of one example.
        temperature: where the stand-in for the classes outside the top k holds their exact mass.
    """

    def __init__(self, tensors, temperature=1.0):
        self._tensors = tensors
        self._temperature = temperature
        self.dtype = np.dtype([(FINGERPRINT, "u1", (FINGERPRINT_BYTES,)), *self._fields()])

    @property
    def kinds(self):
        """Data types of the fields, each with the shape of one example; the fingerprint's first."""
        return [kind for kind, _ in self.dtype.fields.values()]

    @property
    def shapes(self):
        """{name: shape with an open batch dimension}, as the knowledge comes out of the cache."""
        return {name: (None, *tensor["shape"]) for name, tensor in self._tensors.items()}

    def pack(self, knowledge, fingerprints):
        """Records as bytes: uint8 tensor, shape (batch, bytes of a record).

        Args:
            knowledge: {name: float tensor (batch, ...)} of the teacher.
            fingerprints: uint8 tensor, shape (batch, 8).
        """
        parts = [fingerprints]
        for name, tensor in self._tensors.items():
            values = tf.cast(knowledge[name], tf.float32)
            members = [values]
            if tensor["top_k"]:
                members = top_k(values, tensor["top_k"], self._temperature)
            for field, member in zip(self._members(name), members, strict=True):
                parts.append(self._as_bytes(member, field))
        return tf.concat(parts, axis=1)

    def unpack(self, fields):
        """{name: float32 tensor (batch, ...)} from the tensors of the fields after the first."""
        fields = dict(zip(self.dtype.names[1:], fields, strict=True))
        knowledge = {}
        for name, tensor in self._tensors.items():
            members = [_widened(fields[field]) for field in self._members(name)]
            if tensor["top_k"]:
                knowledge[name] = from_top_k(*members, tensor["shape"][-1])
            else:
                knowledge[name] = members[0]
        return knowledge

    def first_not_finite(self, records):
        """(position, field) of the first NaN or infinity in uint8 records (n, bytes), or None."""
        records = np.ascontiguousarray(records).view(self.dtype)[:, 0]
        for field in self.dtype.names[1:]:
            values = records[field]
            if values.dtype.kind == "f":
                bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
                if bad.any():
                    return int(np.argmax(bad)), field
        return None

    def _fields(self):
        for name, tensor in self._tensors.items():
            shape, k = tuple(tensor["shape"]), tensor["top_k"]
            kind = np.dtype(tensor["dtype"]).newbyteorder("<").str
            if not k:
                yield name, kind, shape
                continue
            integer = "<u2" if shape[-1] <= 2**16 else "<i4"
            values, classes, rest = self._members(name)
            yield values, kind, (*shape[:-1], k)
            yield classes, integer, (*shape[:-1], k)
            yield rest, kind, shape[:-1]

    def _members(self, name):
        if self._tensors[name]["top_k"]:
            return [f"{name} top-k logits", f"{name} top-k classes", f"{name} other logit"]
        return [name]

    def _as_bytes(self, values, field):
        base = tf.as_dtype(self.dtype.fields[field][0].base)
        return tf.reshape(
            tf.bitcast(tf.cast(values, base), tf.uint8), (tf.shape(values)[0], self._size(field))
        )

    def _size(self, field):
        return self.dtype.fields[field][0].itemsize


def header(shape, dtype):
    """The first bytes of a `.npy` file."""
    file = io.BytesIO()
    description = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_2_0(
        file, {"descr": description, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def top_k(logits, k, temperature=1.0):
    """The k largest logits, and one that stands for all others: FKD's marginal smoothing.

    Shen and Xing 2022, "A fast knowledge distillation framework for visual recognition", section
    3.3: the probability that the top k leave is spread evenly over the other classes. In logits,
    each of these gets T (logsumexp(z / T) - log n) over the n of them, so that probabilities of the
    top k at temperature T are the teacher's own.

    Args:
        logits: float32 tensor, shape (..., classes).
        k: how many classes to keep, below the number of classes.
        temperature: T.

    Returns:
        (logits (..., k) in falling order, their classes int32 (..., k), the others' logit (...)).
    """
    values, classes = tf.math.top_k(logits, logits.shape[-1])
    others = values[..., k:]
    mass = tf.reduce_logsumexp(others / temperature, axis=-1) - math.log(others.shape[-1])
    return values[..., :k], classes[..., :k], temperature * mass


def from_top_k(values, classes, other, size):
    """Logits of all `size` classes, shape (..., size), from what `top_k` returned."""
    count, k = tf.size(other), values.shape[-1]
    rows = tf.repeat(tf.range(count), k)
    positions = tf.stack([rows, tf.reshape(classes, [-1])], axis=1)
    filled = tf.repeat(tf.reshape(other, (-1, 1)), size, axis=1)
    filled = tf.tensor_scatter_nd_update(filled, positions, tf.reshape(values, [-1]))
    return tf.reshape(filled, (-1, *other.shape[1:], size))


def _widened(numbers):
    return tf.cast(numbers, tf.float32 if numbers.dtype.is_floating else tf.int32)
