"""What the numbers of a student's output are served as."""

import warnings

import numpy as np

from tfkd import head_search, taps
from tfkd.export.errors import ExportWarning
from tfkd.heads import Head, meaning_of_loss

_ROWS, _REPEATED_ROWS = 8, 2  # made-up examples
_REPEATED = 1e-3  # of the largest output: greatest difference between two calls on the same inputs
_ROWS_OF_NO_CHANCE = 4  # so many logits do not sum to 1 by chance


def loss_on(student, output):
    """The loss on the labels that a compiled student has for an output, or None."""
    loss = getattr(student, "loss", None)
    names = taps.output_names(student) or ()
    if isinstance(loss, dict):
        return loss.get(output, next(iter(loss.values())) if len(loss) == 1 == len(names) else None)
    if isinstance(loss, list | tuple):
        if len(loss) == 1 or output not in names:
            return loss[0] if len(loss) == 1 else None
        return loss[names.index(output)]
    return loss


def decided(student, head, shape, loss):
    """(the head to serve by, why it is assumed or "")."""
    how = (
        'Say what they are: head="logits" or "probabilities" for classes that exclude each other, '
        '"independent_logits" or "independent_probabilities" for labels that do not, "numbers", or '
        '"code" for the bits of a hash code.'
    )
    if not shape or (len(shape) > 1 and shape[-1] is None):
        raise ValueError(
            f'Student "{student.name}" returns the shape {shape}; an export serves '
            "(batch, ..., classes) with a fixed number of classes."
        )
    width = width_of(shape)
    if head.kind == "code" and len(shape) != 2:
        raise ValueError(
            f'Student "{student.name}" returns the shape {shape}; a hash code has (batch, bits).'
        )
    if head.kind is None or (head.kind == "probabilities" and head.labels is None):
        raise ValueError(
            f'It is not known what the outputs of student "{student.name}" mean: neither the '
            f"operations that they come from nor their values tell. {how}"
        )
    if width == 1 and head.labels == "one_of_many":
        raise ValueError(
            f'Student "{student.name}" has one output, and a softmax over a single class is always '
            '1. For two classes by one output say head="independent_logits" or '
            '"independent_probabilities"; for a regression say head="numbers".'
        )
    if head.kind == "probabilities" and meaning_of_loss(loss) == "numbers":
        warnings.warn(
            f'Student "{student.name}" is compiled with a loss on numbers, but ends in '
            f'probabilities and is exported as "{head.name}". For a regression say head="numbers"; '
            f'head="{head.name}" ends this warning.',
            category=ExportWarning,
            stacklevel=4,
        )
    if head.kind != "logits" or head.labels is not None:
        return head, ""
    if width == 1:
        return Head("numbers"), (
            "One number an example, and neither an activation nor a loss says that it is the "
            "log-odds of a class: it is served as a number. If it is log-odds, say "
            'head="independent_logits".'
        )
    assumed = (
        "Nothing says whether the classes exclude each other: it was assumed that they do (softmax "
        'over the logits). If they are independent labels, say head="independent_logits".'
    )
    if meaning_of_loss(loss) == "numbers":
        warnings.warn(
            f'Student "{student.name}" is compiled with a loss on numbers, but is exported as a '
            f'classifier of {width} classes. For a regression say head="numbers"; head="logits" '
            "confirms the classes and ends this warning.",
            category=ExportWarning,
            stacklevel=4,
        )
    return Head("logits", "one_of_many"), assumed


def require_sense(served):
    """Refuses a head that the Keras model's own numbers contradict."""
    feeds = served.sample(_ROWS)
    own = served.own_output(feeds)
    _require_repeatable(served, feeds, own)
    said = contradiction(own, served.head)
    if said:
        raise ValueError(
            f'The head of student "{served.model.name}" was taken for "{served.head.name}", but '
            f"{said}. Say which head it is: head= takes logits, independent_logits, "
            "probabilities, independent_probabilities, numbers or code."
        )


def _require_repeatable(served, feeds, own):
    own = own[:_REPEATED_ROWS]
    again = served.own_output({name: array[:_REPEATED_ROWS] for name, array in feeds.items()})
    allowed = _REPEATED * max(1.0, float(np.nan_to_num(np.abs(own)).max(initial=0.0)))
    if np.nan_to_num(np.abs(again - own)).max(initial=0.0) > allowed:
        warnings.warn(
            f'Student "{served.model.name}" answers the same inputs otherwise each time: something '
            "in it is random in inference too. Its export repeats the same random numbers from "
            "each start. Call random layers with training=False, or leave them out.",
            category=ExportWarning,
            stacklevel=4,
        )


def contradiction(own, head):
    """What in a model's outputs speaks against a head, in words; "" for nothing.

    Args:
        own: float array, shape (examples, ..., outputs).
        head: `tfkd.heads.Head`, known.
    """
    looks = head_search.measure(own)
    if head.kind == "logits" and looks == "distribution" and len(own) >= _ROWS_OF_NO_CHANCE:
        return "each row of its outputs is a distribution over the classes"
    if head.kind == "probabilities" and looks == "outside":
        return "its outputs lie outside of 0 and 1"
    if (head.kind, head.labels, looks) == ("probabilities", "one_of_many", "unit"):
        return "the rows of its outputs do not sum to 1"
    return ""


def width_of(shape):
    """How many numbers an output gives for one thing: its last dimension, 1 for (batch,)."""
    return shape[-1] if len(shape) > 1 else 1
