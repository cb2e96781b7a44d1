"""Figures of text: perplexity by counting, BLEU and ROUGE-L by the libraries that define them."""

import numpy as np
import tensorflow as tf

from tfkd import _extras


def bleu(translations, references):
    """BLEU of a corpus by sacrebleu, 0 to 100, lower case, its tokenizer "13a".

    Args:
        translations: list of str.
        references: list of str, one for each.

    Raises:
        ValueError: lists that are empty or differ in length.
        ModuleNotFoundError: without the extra "tasks".
    """
    _check(translations, references)
    _extras.needs_extra("tasks", "BLEU")
    import sacrebleu

    # Single words and spaces are given as they are: the warning on tokenised text does not apply.
    found = sacrebleu.corpus_bleu(translations, [references], lowercase=True, force=True)
    return float(found.score)


def rouge_l(texts, references):
    """Mean F-measure of the longest common subsequence of words, by rouge-score, 0 to 1.

    Args:
        texts: list of str.
        references: list of str, one for each.

    Raises:
        ValueError: lists that are empty or differ in length.
        ModuleNotFoundError: without the extra "tasks".
    """
    _check(texts, references)
    _extras.needs_extra("tasks", "ROUGE-L")
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    scores = [scorer.score(*pair)["rougeL"] for pair in zip(references, texts, strict=True)]
    return float(np.mean([score.fmeasure for score in scores]))


def negative_log_likelihood(logits, labels, padding=0):
    """Sum over positions of -log of the label's probability in nats, and how many they are.

    Args:
        logits: float tensor (batch, positions, tokens).
        labels: int tensor (batch, positions).
        padding: label that does not count.

    Returns:
        Two float32 scalars; exp(sum / number) over a text is its perplexity.
    """
    counted = tf.cast(labels != tf.cast(padding, labels.dtype), tf.float32)
    values = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))
    return tf.reduce_sum(values * counted), tf.reduce_sum(counted)


def _check(texts, references):
    if not texts or len(texts) != len(references):
        raise ValueError(
            f"Expected as many references as texts, and at least one; got {len(texts)} texts and "
            f"{len(references)} references."
        )
