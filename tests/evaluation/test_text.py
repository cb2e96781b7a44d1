"""Figures of text, by hand on examples that are small enough for it."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfkd.evaluation.text import bleu, negative_log_likelihood, rouge_l


def test_bleu_of_a_short_translation():
    reference = "the cat sat on the mat"
    assert bleu([reference], [reference]) == pytest.approx(100.0)
    # All n-grams are right, but four words stand for six: only the brevity penalty counts.
    assert bleu(["The cat sat on"], [reference]) == pytest.approx(100 * math.exp(1 - 6 / 4))
    # Five of six words, three of five pairs, two of four triples, one of three quadruples.
    shares = (5 / 6) * (3 / 5) * (2 / 4) * (1 / 3)
    assert bleu(["the cat sat on a mat"], [reference]) == pytest.approx(100 * shares**0.25)


def test_rouge_l_is_the_longest_common_subsequence():
    # "the sat down" of four words and of five: F of 3/4 and 3/5.
    found = rouge_l(["the dog sat down"], ["the cat quickly sat down"])
    precision, recall = 3 / 4, 3 / 5
    assert found == pytest.approx(2 * precision * recall / (precision + recall))
    assert rouge_l(["", "a b"], ["a", "a b"]) == pytest.approx(0.5)


def test_perplexity_of_equal_chances_is_their_number():
    labels = tf.constant([[1, 2, 0], [3, 0, 0]])
    total, count = negative_log_likelihood(tf.zeros((2, 3, 7)), labels)
    assert float(count) == 3.0
    np.testing.assert_allclose(math.exp(total / count), 7.0, rtol=1e-6)


def test_nothing_to_compare_is_refused():
    for figure in (bleu, rouge_l):
        with pytest.raises(ValueError, match="as many references as texts"):
            figure(["a"], [])
