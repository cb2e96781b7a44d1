"""Every method against the outcome of its reference implementation, value and gradient.

`tests/golden/` holds what the authors' code gave in float64 on small inputs (here channels last).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfkd import losses

GOLDEN = Path(__file__).parents[1] / "golden"


def cases(method):
    return json.loads((GOLDEN / f"{method}.json").read_text())["cases"]


def tensors(given):
    """What a golden file holds as tensors: float32, integers, lists of them, or plain numbers."""
    if isinstance(given, list):
        return [tensors(part) for part in given]
    if not isinstance(given, dict):
        return tf.constant(given, tf.float32)
    kind = tf.int32 if all(isinstance(value, int) for value in given["values"]) else tf.float32
    return tf.reshape(tf.constant(given["values"], kind), given["shape"])


def logits(make):
    """The run of a loss on logits that `make` makes of a case's settings."""

    def run(hyper, inputs):
        loss = make(hyper)
        needs = {"labels": inputs["labels"]} if "labels" in loss.needs else {}
        return loss(inputs["teacher"], inputs["student"], **needs)

    return run


def standardized(hyper):
    if "alpha" in hyper:
        return losses.DecoupledDistillation(*decoupled(hyper), standardize=True)
    return losses.LogitsDistillation(hyper["temperature"], standardize=True)


def decoupled(hyper):
    return hyper["temperature"], hyper["alpha"], hyper["beta"]


def multi_level(case):
    kinds = {"cc": losses.ClassRelationDistillation, "bc": losses.BatchRelationDistillation}
    return logits(lambda hyper: kinds[case["name"][:2]](hyper["temperature"]))


RUNS = {
    "kd": logits(lambda hyper: losses.LogitsDistillation(hyper["temperature"])),
    "logit_standardization": logits(standardized),
    "dkd": logits(lambda hyper: losses.DecoupledDistillation(*decoupled(hyper))),
    "dist": logits(
        lambda hyper: losses.CorrelationDistillation(hyper["tau"], hyper["beta"], hyper["gamma"])
    ),
    "nkd": logits(lambda hyper: losses.NormalizedDistillation(hyper["temp"], hyper["gamma"])),
    "rld": logits(
        lambda hyper: losses.RefinedDistillation(
            hyper["temperature"], hyper["alpha_temperature"], hyper["alpha"], hyper["beta"]
        )
    ),
}
BY_CASE = {
    "ttm": lambda case: logits(
        lambda hyper: losses.TransformedTeacherMatching(
            hyper["gamma"], weighted=case["name"].startswith("wttm")
        )
    ),
    "mlkd": multi_level,
}

TABLE = [
    pytest.param(BY_CASE[method](case) if method in BY_CASE else RUNS[method], case, id=name)
    for method in (*RUNS, *BY_CASE)
    for case in cases(method)
    for name in [f"{method}: {case['name']}"]
]


@pytest.mark.parametrize(("run", "case"), TABLE)
def test_value_and_gradient_are_those_of_the_reference(run, case):
    inputs = {name: tensors(given) for name, given in case["inputs"].items()}
    wanted = {name: tensors(given) for name, given in case["grad"].items()}
    watched = {name: inputs[name] for name in wanted}
    with tf.GradientTape() as tape:
        tape.watch(watched)
        value = run(case["hyper"], inputs)
    assert value.dtype == tf.float32
    np.testing.assert_allclose(value, case["loss"], rtol=1e-5)
    for name, gradient in tape.gradient(value, watched).items():
        for own, truth in zip(
            tf.nest.flatten(gradient), tf.nest.flatten(wanted[name]), strict=True
        ):
            largest = np.abs(truth).max()
            np.testing.assert_allclose(own, truth, rtol=0, atol=1e-5 * largest, err_msg=name)
