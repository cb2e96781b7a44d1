"""Every method against the outcome of its reference implementation, value and gradient.

`tests/golden/` holds what the authors' code gave in float64 on small inputs (here channels last).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfkd import losses
from tfkd.losses.contrast import batch_contrast, memory_contrast, moved
from tfkd.losses.features import unit
from tfkd.losses.maps import nearest_resize
from tfkd.losses.review import hierarchical_error
from tfkd.tasks.labels import SmoothedCrossentropy
from tfkd.teachers import weighing

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


def compared(make):
    """The run of a loss without parts on whatever it compares."""
    return lambda hyper, inputs: make(hyper)(inputs["teacher"], inputs["student"])


def built(loss, inputs):
    loss.build_once(*(tuple(inputs[side].shape) for side in ("teacher", "student")))
    return loss


def multi_level(case):
    kinds = {"cc": losses.ClassRelationDistillation, "bc": losses.BatchRelationDistillation}
    return logits(lambda hyper: kinds[case["name"][:2]](hyper["temperature"]))


def variational(hyper, inputs):
    loss = built(losses.VariationalDistillation(), inputs)
    for number, layer in enumerate(loss.mean_layers, start=1):
        _stand_in(layer, "_kernel", inputs[f"w{number}"][0, 0])
    loss.spread = inputs["log_scale"]
    return loss(inputs["teacher"], inputs["student"])


def fusion(hyper, inputs):
    size, wanted = hyper["shape"], hyper["out_shape"]
    channels = inputs["x"].shape[-1]
    # The deeper stage only has its channels: what it gives is an input.
    loss = losses.ReviewDistillation(["shallow", "deep"], ["shallow", "deep"])
    loss.build(
        [(None, wanted, wanted, hyper["out"]), (None, 2, 2, 1)],
        [(None, size, size, channels), (None, 2, 2, hyper["mid"])],
    )
    for layer, kernel in (
        (loss.narrowings[0], "w1"),
        (loss.widenings[0], "w2"),
        (loss.attentions[0], "wa"),
    ):
        _stand_in(layer, "_kernel", inputs[kernel])
    loss.attentions[0].bias.assign(inputs["ba"])
    loss.narrowing_norms[0].gamma.assign(inputs["g1"])
    loss.narrowing_norms[0].beta.assign(inputs["b1"])
    loss.widening_norms[0].gamma.assign(inputs["g2"])
    loss.widening_norms[0].beta.assign(inputs["b2"])
    output, residual = loss.fused(0, inputs["x"], inputs["y"], (wanted, wanted), training=True)
    return tf.reduce_mean(tf.square(output)) + tf.reduce_mean(tf.square(residual))


def remembered(hyper, inputs):
    # Temperature, memory and columns are those of the case; the scale may be.
    extra = {name: tensors(given) for name, given in inputs["extra"].items()}
    value = 0.0
    for side, other in (("student", "teacher"), ("teacher", "student")):
        each, scale = memory_contrast(
            inputs[side],
            extra[f"{other}_memory"],
            extra["index"],
            hyper["T"],
            tf.constant(hyper.get(f"Z_{side}", 0.0)),
        )
        np.testing.assert_allclose(scale, hyper.get(f"Z_{side}") or extra[f"z_{side}"], rtol=1e-5)
        value += tf.reduce_mean(each)
    return value


def in_the_batch(hyper, inputs):
    sides = (
        unit(inputs[side] @ inputs[f"w{side[0]}"] + inputs[f"b{side[0]}"])
        for side in ("teacher", "student")
    )
    return tf.reduce_mean(batch_contrast(*sides, 1.0 / tf.exp(inputs["tau"])))


def by_confidence(hyper, inputs):
    """Teachers' maps, weighed by how right the outputs beside them are."""
    targets = tf.one_hot(inputs["labels"], inputs["outputs"].shape[-1])
    weights = weighing.confidence(tf.transpose(inputs["outputs"], (1, 0, 2)), targets)
    truth = tensors(inputs["extra"]["weights"])
    np.testing.assert_allclose(weights, tf.transpose(truth), rtol=1e-5, atol=1e-7)
    loss, each = losses.FeatureDistillation("mse"), tf.unstack(weights, axis=1)
    maps = zip(inputs["teacher"], inputs["student"], each, strict=True)
    return sum(loss(*one) for one in maps) / hyper["teachers"]  # as the reference does once more


def gated(hyper, inputs):
    # The reference adds 1e-7 to each of the teacher's probabilities.
    loss = losses.EnsembleDistillation(["ensemble"], ["branch"], hyper["T"])
    return loss((inputs["teacher"],), (inputs["student"],))


def teacher_free(case):
    """The reference averages over the classes too, which a multiplier makes up for."""

    def run(hyper, inputs):
        classes = inputs["student"].shape[-1]
        if case["name"].startswith("label smoothing"):  # of the other classes; here over all
            smoothing = hyper["alpha"] * classes / (classes - 1)
            return SmoothedCrossentropy(smoothing, True)(inputs["labels"], inputs["student"])
        own, taught = losses.LogitsDistillation(hyper["T"]), inputs.get("teacher")
        if taught is None:
            own, taught = (
                losses.TeacherFreeDistillation(hyper["T"], hyper["correct"], True),
                (inputs["student"]),
            )
        needs = {"labels": inputs["labels"]} if "labels" in own.needs else {}
        value = own(taught, inputs["student"], **needs) * hyper["multiplier"] / classes
        labels = SmoothedCrossentropy(0.0, True)(inputs["labels"], inputs["student"])
        return (1.0 - hyper["alpha"]) * labels + hyper["alpha"] * value

    return run


def _stand_in(layer, name, tensor):
    """A tensor in the place of a layer's weight, so that a gradient reaches it."""
    setattr(layer, name, tensor)


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
RUNS |= {
    "at": compared(lambda hyper: losses.AttentionTransfer()),
    "sp": compared(lambda hyper: losses.SimilarityPreserving()),
    "rkd": compared(lambda hyper: losses.RelationalDistillation(hyper["w_d"], hyper["w_a"])),
    "pkt": compared(lambda hyper: losses.ProbabilisticTransfer()),
    "nst": compared(lambda hyper: losses.NeuronSelectivityTransfer()),
    "cat_kd": compared(
        lambda hyper: losses.ClassAttentionTransfer(hyper["resolution"], hyper["normalize"])
    ),
    "ofa": logits(
        lambda hyper: losses.EnhancedTargetDistillation(hyper["eps"], hyper["temperature"])
    ),
    "hcl": lambda hyper, inputs: sum(
        tf.reduce_mean(hierarchical_error(*pair))
        for pair in zip(inputs["teacher"], inputs["student"], strict=True)
    ),
    "vid": variational,
    "reviewkd_abf": fusion,
    "crd": remembered,
    "dcd_infonce": in_the_batch,
    "ca_mkd": by_confidence,
    "one_kl": gated,
}
BY_CASE = {
    "ttm": lambda case: logits(
        lambda hyper: losses.TransformedTeacherMatching(
            hyper["gamma"], weighted=case["name"].startswith("wttm")
        )
    ),
    "mlkd": multi_level,
    "tf_kd": teacher_free,
}

TABLE = [
    pytest.param(BY_CASE[method](case) if method in BY_CASE else RUNS[method], case, id=name)
    for method in (*RUNS, *BY_CASE)
    for case in cases(method)
    if case["hyper"].get("alpha") != 0.5 or method != "dcd_infonce"  # plain InfoNCE has alpha 0
    for name in [f"{method}: {case['name']}"]
]


@pytest.mark.parametrize(("run", "case"), TABLE)
def test_value_and_gradient_are_those_of_the_reference(run, case):
    inputs = {name: tensors(given) for name, given in case["inputs"].items()}
    wanted = {name: tensors(given) for name, given in case["grad"].items()}
    watched = {name: inputs[name] for name in wanted}
    if "extra" in case:
        inputs["extra"] = case["extra"]
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


def test_a_memory_after_a_batch_is_that_of_the_reference():
    case = cases("crd")[0]
    extra = {name: tensors(given) for name, given in case["extra"].items()}
    for side in ("student", "teacher"):
        memory = extra[f"{side}_memory"].numpy()
        entries = moved(memory[extra["positives"]], tensors(case["inputs"][side]), 0.5)
        memory[extra["positives"]] = entries
        np.testing.assert_allclose(memory, extra[f"{side}_memory_after"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("given", "size"), [(8, 4), (4, 7), (7, 4), (14, 7), (1, 7), (3, 3)])
def test_nearest_resizing_takes_the_position_rounded_down(given, size):
    x = tf.reshape(tf.range(float(given * given)), (1, given, given, 1))
    rows = np.arange(size) * given // size
    wanted = np.arange(given * given).reshape(given, given)[np.ix_(rows, rows)]
    np.testing.assert_array_equal(nearest_resize(x, (size, size))[0, ..., 0], wanted)
