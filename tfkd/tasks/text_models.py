"""Whether models of text fit their data, and how good they are."""

import math

import keras
import tensorflow as tf

from tfkd import _keras
from tfkd.data import text, vocabulary
from tfkd.evaluation.text import bleu, negative_log_likelihood, rouge_l
from tfkd.models import generation, one_pass
from tfkd.models.text import DECODER, ENCODER

_UNKNOWN = "\u2047"  # as SentencePiece writes it


def check(role, model, name, info, takes):
    """Raises ValueError unless a model reads and writes the tokens of the data's vocabularies.

    Args:
        role, name: of the model, for messages.
        model: the `keras.Model`.
        info: `tfkd.data.text.TextInfo`.
        takes: set of the names of its inputs.
    """
    names = {spec.name for spec in getattr(model, "inputs", None) or ()}
    layers = _keras.layers_of(model)
    halves = {layer.name for layer in layers} & {ENCODER, DECODER}
    if names != takes or (len(takes) > 1 and len(halves) < 2):
        what = "layers encoder and decoder, and " * (len(takes) > 1)
        raise ValueError(
            f'The {role} "{name}" takes {sorted(names)}; expected a model with {what}the inputs '
            f"{sorted(takes)}, as tfkd.models.language_model and translator make them."
        )
    size, wanted = model.outputs[0].shape[-1], info.vocabularies[-1].size
    identities = {own.identity for own in info.vocabularies}
    marks = {layer.name for layer in layers if isinstance(layer, keras.layers.Embedding)}
    missing = [own for own in identities if not any(mark.endswith(f"_{own}") for mark in marks)]
    if size != wanted or missing:
        raise ValueError(
            f'The {role} "{name}" was made for another vocabulary than that of "{info.name}": it '
            f"knows {size} tokens, the data has {wanted}, and its embeddings are {sorted(marks)}, "
            f"of which one must end in each of {sorted(identities)}. Train it on this data (with "
            "the same limit), or give the data that it was trained on."
        )
    longest = [layer.input_dim - 1 for layer in layers if layer.name == "positions"]
    if min(longest, default=max(info.lengths)) < max(info.lengths):
        raise ValueError(
            f'The {role} "{name}" reads at most {min(longest)} tokens, but sequences of '
            f'"{info.name}" have {max(info.lengths)}. Give a smaller length.'
        )


class LanguageJudge:
    """Perplexity of a split, and ROUGE-L of continuations of its first windows.

    Args:
        model: a language model.
        batches: of (tokens, next tokens).
        info: `tfkd.data.text.TextInfo`.
        continued: how many windows are continued.
    """

    def __init__(self, model, batches, info, continued):
        (self._known,), (length,) = info.vocabularies, info.lengths
        self._batches = batches
        given = length // 2
        steps = length - given
        windows = next(iter(batches.unbatch().batch(continued)))[0]
        self._begun, self._ends = windows[:, :given], self._lines(windows[:, given:])
        tokens = [tf.TensorSpec((None, length), dtype) for dtype in (tf.int32, tf.int64)]
        self._loss = tf.function(
            lambda x, y: negative_log_likelihood(model(x, training=False), y),
            input_signature=tokens,
            autograph=False,
        )
        self._continue = tf.function(
            lambda x: generation.continued(model, x, steps, length), autograph=False
        )

    def __call__(self):
        figures = {"perplexity": perplexity(self._loss(*batch) for batch in self._batches)}
        figures["rouge_l"] = rouge_l(self._lines(self._continue(self._begun)), self._ends)
        return figures

    def _lines(self, tokens):
        return [line.decode("utf-8") for line in self._known.decode(tokens).numpy()]


class TranslationJudge:
    """BLEU of greedy translations of a split, and perplexity of its references.

    Args:
        model: a translator, or its `two_passes`.
        batches: of (source string, target string).
        info: `tfkd.data.text.TextInfo`.
        output: of two passes, the one that counts; both are alike without dropout.
    """

    def __init__(self, model, batches, info, output=None):
        model = model if output is None else one_pass(model)
        self._batches = batches.cache()
        self._references = text.lines_of(batches.unbatch())[1]
        self._translate = translate_function(model, info)

        def loss(sources, targets):
            x, labels = text.pair_tokens(info, sources, targets)
            return negative_log_likelihood(model(x, training=False), labels)

        signature = [tf.TensorSpec((None,), tf.string)] * 2
        self._loss = tf.function(loss, input_signature=signature, autograph=False)

    def __call__(self):
        found = [line for sources, _ in self._batches for line in self._translate(sources).numpy()]
        # BLEU's tokenizer would cut "[UNK]" in three: an unknown word is one wrong word.
        unknown = vocabulary.SPECIAL[vocabulary.UNKNOWN]
        found = [line.decode("utf-8").replace(unknown, _UNKNOWN) for line in found]
        losses = (self._loss(*batch) for batch in self._batches)
        return {"bleu": bleu(found, self._references), "perplexity": perplexity(losses)}


def translate_function(model, info, beams=1):
    """A compiled function of source strings (batch,) to their translations, strings (batch,).

    Args:
        model: a translator.
        info: `tfkd.data.text.TextInfo`.
        beams: of the search; 1 is greedy.
    """
    target, length = info.vocabularies[1], info.lengths[1]
    ends = (vocabulary.START, vocabulary.END, length)

    def translate(sources):
        tokens = text.source_tokens(info, sources)
        if beams == 1:
            return target.decode(generation.translated(model, tokens, *ends))
        return target.decode(generation.beams(model, tokens, *ends, beams))

    signature = [tf.TensorSpec((None,), tf.string)]
    return tf.function(translate, input_signature=signature, autograph=False)


def perplexity(losses):
    """exp of the mean over all tokens of what `negative_log_likelihood` gives for batches."""
    sums, counts = zip(*losses, strict=True)
    return math.exp(float(tf.add_n(sums)) / float(tf.add_n(counts)))
