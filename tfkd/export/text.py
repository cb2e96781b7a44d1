"""A model of text as a SavedModel: text in, text out, by TensorFlow's own operations alone."""

import numpy as np
import tensorflow as tf

from tfkd.data import text as texts
from tfkd.data import vocabulary as tokens
from tfkd.export import loading, model_card
from tfkd.export.errors import ExportCheckError
from tfkd.export.saved_model import checked_batch_sizes, concrete, publish
from tfkd.models import generation
from tfkd.models.text import ENCODER

TOLERANCE = 1e-5  # of the largest logit, or of 1 if that is larger


_INPUTS = """Texts are strings in UTF-8; {kinds} are cut and looked up inside. Over REST:

    POST /v1/models/{name}:predict
    {{"instances": [{{"text": "…"}}]}}"""
_CHECKED = """\
Loaded in a fresh process by TensorFlow's C++ loader and compared with the Keras model: the answers
to {texts} texts are those that it gives token by token, and the logits differ by at most
{largest_difference:.2g}. {warmup_records} warm-up records replayed. {variables} variables, all of
them the model's."""


def export_text(
    model,
    directory,
    info,
    *,
    steps=None,
    version=None,
    keep=None,
    warmup_batch_sizes=(1, 8),
    manifest=None,
    check=True,
):
    """Writes `directory/<version>/` of a language model or a translator, and checks it.

    Signatures, each with a free batch dimension; words are cut, looked up and joined inside:
        serving_default  {"text": string (batch,)} → {"text": string (batch,)}: the translation, or
                         the continuation, each token the likeliest
        logits           {"text"} of a language model, {"text", "target"} of a translator, the
                         translation so far → {"logits": float32 (batch, positions, tokens)}

    What is not in the vocabulary becomes its unknown token. Of a text longer than the model reads a
    translator takes the beginning, a language model the end. An empty text is translated as an
    empty sentence, and continued as the beginning of a line.

    The check loads the export in TensorFlow's C++ loader, in a process of its own, and compares the
    logits, and the text with what the Keras model gives token by token, one sentence at a time.
    TFLite has no such export: its built-in operations know no strings and no lookup tables. A
    language model of a fixed length from tokens to logits is written by `export_tflite`.

    Args:
        model: a language model or translator of `tfkd.models`.
        directory: base directory of the model's versions.
        info: `tfkd.data.text.TextInfo` of the data that it was trained on, with its vocabularies.
        steps: of a language model, how many tokens a continuation has; half of its length unless
            told.
        version, keep, warmup_batch_sizes, manifest: as of `export_saved_model`.
        check: False leaves the check out.

    Returns:
        `pathlib.Path` of the version.

    Raises:
        ValueError: arguments that do not fit the model.
        ExportCheckError: the export does not do what the model does; nothing is published.
    """
    kind = _Translator if any(layer.name == ENCODER for layer in model.layers) else _Language
    served = kind(model, info, steps)
    functions = {
        "serving_default": concrete(served.answer, {"text": _strings("text")}),
        "logits": concrete(served.logits, {name: _strings(name) for name in served.inputs}),
    }
    feeds = {
        name: np.array([t.encode() for t in lines], object)
        for name, lines in served.examples().items()
    }
    requests = [
        (signature, {name: np.resize(feeds[name], size) for name in names})
        for size in checked_batch_sizes(warmup_batch_sizes)
        for signature, names in (("serving_default", ("text",)), ("logits", served.inputs))
    ]

    def compared(path):
        return loading.checked(path, model, functions, lambda worker: _compare(worker, served))

    def card(report):
        return model_card.Card(
            inputs=_INPUTS.format(
                name=model.name, kinds=" and ".join({own.kind: 0 for own in info.vocabularies})
            ),
            answers=served.described,
            checked=model_card.UNCHECKED if report is None else _CHECKED.format(**report),
            facts={"lengths": list(info.lengths), "steps": served.steps},
        )

    return publish(
        *(model, directory, functions, requests, card, compared if check else None),
        manifest=manifest,
        version=version,
        keep=keep,
        tables=[table for own in info.vocabularies for table in own.tables],
    )


def _strings(name):
    return tf.TensorSpec((None,), tf.string, name=name)


class _Translator:
    """A translator as functions of strings, and the same by Keras, one token after the other."""

    inputs = ("text", "target")

    def __init__(self, model, info, steps):
        if steps is not None:
            raise ValueError("steps is of a language model: a translation ends by itself.")
        self.model, self.info, self.length = model, info, info.lengths[1]
        self.steps, self._known = None, info.vocabularies[1]

    @property
    def described(self):
        """What comes back, in words, for the model card."""
        return (
            f"`serving_default`: the translation of each text, of at most {self.length} tokens, "
            "each of them the likeliest. `logits`: of a text and its translation so far, the "
            "logits of the token after each of the latter's, the start included. Token 0 is "
            "padding, 1 what is not in the vocabulary, 2 the start and 3 the end of a sentence."
        )

    def answer(self, feeds):
        source = texts.source_tokens(self.info, feeds["text"])
        ends = (tokens.START, tokens.END, self.length)
        return {"text": self._known.decode(generation.translated(self.model, source, *ends))}

    def logits(self, feeds):
        x = {
            "source": texts.source_tokens(self.info, feeds["text"]),
            "target": texts.target_tokens(self.info, feeds["target"]),
        }
        return {"logits": self.model(x, training=False)}

    def examples(self):
        """{input: list of str} to check with: known, unknown, long and empty texts."""
        sides = [_examples(own, self.length, " ") for own in self.info.vocabularies]
        return dict(zip(self.inputs, sides, strict=True))

    def by_keras(self, line):
        source = texts.source_tokens(self.info, tf.constant([line]))
        found = [tokens.START]
        while len(found) <= self.length and found[-1] != tokens.END:
            x = {"source": source, "target": tf.constant([found])}
            found.append(_likeliest(self.model(x, training=False)))
        return self._known.decode(tf.constant([found])).numpy()[0]


class _Language:
    """The same of a language model."""

    inputs = ("text",)

    def __init__(self, model, info, steps):
        (self._known,), (self.length,) = info.vocabularies, info.lengths
        self.steps = self.length // 2 if steps is None else steps
        if not 0 < self.steps < self.length:
            raise ValueError(
                f"steps must lie between 1 and {self.length - 1}, so that a text and its "
                f"continuation fit the model's {self.length} tokens; got {steps!r}."
            )
        self.model = model

    @property
    def described(self):
        return (
            f"`serving_default`: {self.steps} tokens that continue each text, each of them the "
            f"likeliest; of a text the last {self.length - self.steps} tokens are read. `logits`: "
            "of the token after each of a text's. Token 0 is padding, 1 what is not in the "
            "vocabulary."
        )

    def answer(self, feeds):
        given = self._tokens(feeds["text"])
        found = generation.continued(self.model, given, self.steps, self.length)
        return {"text": self._known.decode(found)}

    def logits(self, feeds):
        return {"logits": self.model(self._tokens(feeds["text"]), training=False)}

    def examples(self):
        between = " " if self._known.kind == "words" else ""
        return {"text": _examples(self._known, self.length, between)}

    def by_keras(self, line):
        found = self._tokens(tf.constant([line])).numpy()[0].tolist()
        for _ in range(self.steps):
            found.append(_likeliest(self.model(tf.constant([found]), training=False)))
        return self._known.decode(tf.constant([found[-self.steps :]])).numpy()[0]

    def _tokens(self, lines):
        known = self._known.encode(lines)[:, -(self.length - self.steps) :]
        empty = known.row_lengths() == 0
        count = tf.reduce_sum(tf.cast(empty, tf.int32))
        begun = tf.repeat(self._known.encode(tf.constant(["\n"])).flat_values[:1], count)
        if self._known.kind == "words":  # a new line is no word
            begun = tf.fill((count,), tokens.START)
        filled = tf.RaggedTensor.from_row_lengths(begun, tf.cast(empty, tf.int64))
        return tf.concat([filled, known], axis=1).to_tensor()


def _likeliest(logits):
    return 1 + int(np.argmax(logits[0, -1, 1:]))


def _examples(known, length, between):
    some = known.tokens
    short = between.join(some[i % len(some)] for i in range(length // 4 + 1))
    long = between.join(some[(3 * i) % len(some)] for i in range(2 * length))
    return [short, "", long, f"{short[::-1]}{between}\u2603"]


def _compare(worker, served):
    """What the check found: {"largest_difference": of the logits, "texts": how many}."""
    given = served.examples()
    feeds = {name: np.array([t.encode() for t in lines], object) for name, lines in given.items()}
    wanted = [served.by_keras(line) for line in given["text"]]
    own = served.logits({name: tf.constant(lines) for name, lines in given.items()})["logits"]
    found = loading.attempt("logits", worker.run, "logits", feeds)["logits"]
    asked = ("serving_default", {"text": feeds["text"]})
    answers = loading.attempt("texts", worker.run, *asked)["text"]
    apart = float(np.abs(found - own.numpy()).max())
    if found.shape != own.shape or not apart <= TOLERANCE * max(1.0, np.abs(own).max()):
        raise ExportCheckError(
            f'The logits of the export of "{served.model.name}" are {apart:.3g} from the Keras '
            "model's."
        )
    for line, answer, expected in zip(given["text"], answers, wanted, strict=True):
        if answer != expected:
            raise ExportCheckError(
                f'To {line[:60]!r} the export of "{served.model.name}" answers '
                f"{answer.decode()[:200]!r}, the Keras model {expected.decode()[:200]!r}."
            )
    return {"largest_difference": apart, "texts": len(wanted)}
