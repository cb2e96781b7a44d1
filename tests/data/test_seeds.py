"""The hash equals an independent Python implementation and the published vectors."""

import numpy as np
import tensorflow as tf

from tfkd.data.seeds import permutation, random_integers, splitmix64, view_seed

WORD = 2**64 - 1


def python_splitmix64(word):
    word = (word + 0x9E3779B97F4A7C15) & WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & WORD
    return word ^ (word >> 31)


def python_view_seed(index, view, seed):
    state = python_splitmix64(seed & WORD) ^ (view & WORD)
    first = python_splitmix64(python_splitmix64(state) ^ (index & WORD))
    words = first, python_splitmix64(first)
    return [word - 2**64 if word >= 2**63 else word for word in words]


def test_splitmix64_gives_the_published_stream_of_seed_1234567():
    # Rosetta Code, "Pseudo-random numbers/Splitmix64": the state advances by the golden gamma.
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = [(1234567 + step * 0x9E3779B97F4A7C15) & WORD for step in range(5)]
    assert splitmix64(tf.constant(states, tf.uint64)).numpy().tolist() == published
    assert [python_splitmix64(state) for state in states] == published


def test_view_seed_equals_python():
    indices = [0, 1, 2, 59_999, 2**40, 2**62]
    for view, seed in [(0, 0), (7, 0), (3, 12345), (2**33, -1)]:
        expected = [python_view_seed(index, view, seed) for index in indices]
        assert view_seed(indices, view, seed).numpy().tolist() == expected
        assert view_seed(indices, [view] * 6, seed).numpy().tolist() == expected


def test_view_seed_golden():
    golden = [[7702586659592502839, 2399657773382937285]]
    assert view_seed([5], 2, seed=1).numpy().tolist() == golden


def test_view_seed_is_the_same_inside_a_graph_and_for_int32():
    indices = tf.range(10)
    graph = tf.function(lambda view: view_seed(indices, view, 4))(tf.constant(3, tf.int64))
    np.testing.assert_array_equal(graph, view_seed(tf.range(10, dtype=tf.int64), 3, 4))


def test_seeds_of_examples_views_and_runs_differ():
    seeds = [view_seed(tf.range(1000), view, seed) for view in range(5) for seed in range(2)]
    assert len(np.unique(tf.concat(seeds, 0)[:, 0])) == 10_000


def test_random_integers_are_even_and_draws_are_unrelated():
    seeds = view_seed(tf.range(90_000), 0)
    first = random_integers(seeds, 0, 9).numpy()
    second = random_integers(seeds, 1, 9).numpy()
    pairs = np.bincount(first * 9 + second, minlength=81)
    assert pairs.shape == (81,)
    # Chi square of 80 degrees of freedom: mean 80, standard deviation 12.6.
    chi_square = ((pairs - 90_000 / 81) ** 2 / (90_000 / 81)).sum()
    assert 80 - 4 * 12.6 < chi_square < 80 + 4 * 12.6


def test_random_integers_equal_python():
    seeds = view_seed([3, 4], 1).numpy()
    for row, drawn in zip(seeds.tolist(), random_integers(seeds, 6, 1000).numpy(), strict=True):
        first, second = (word & WORD for word in row)
        word = python_splitmix64(first ^ python_splitmix64(second ^ 6))
        assert drawn == ((word >> 32) * 1000) >> 32


def test_permutation_sorts_the_hash_and_is_complete():
    order = permutation(1000, 3, seed=2).numpy()
    assert sorted(order) == list(range(1000))
    stream = 2 ^ 0x5368_7566_666C_6521
    keys = [python_view_seed(index, 3, stream)[0] for index in range(1000)]
    assert order.tolist() == sorted(range(1000), key=keys.__getitem__)
    assert (order != permutation(1000, 4, seed=2).numpy()).mean() > 0.99
    assert (order != permutation(1000, 3, seed=3).numpy()).mean() > 0.99
