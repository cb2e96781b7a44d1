"""Code on docs/methods.md runs as it stands there, and trains what it says."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfkd

BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "methods.md").read_text(), re.S
)
# Block → its losses' metrics, and whether the student's own classifier is among what is trained.
EXPECTED = [
    (["feature_distillation"], False),
    ([*(f"ofa_stage_{n}" for n in (1, 2, 3)), "ofa_output"], True),
    (["class_attention_transfer"], True),
]


@pytest.mark.parametrize(("block", "expected"), list(zip(BLOCKS, EXPECTED, strict=True)), ids="SOC")
def test_another_student(block, expected):
    metrics, trains_classifier = expected
    teacher, student = (
        tfkd.models.build("resnet", (12, 12, 3), 5, depth=8, width=width) for width in (0.5, 0.25)
    )
    names = {"tfkd": tfkd, "teacher": teacher, "student": student}
    exec(compile(block, "methods.md", "exec"), names)  # noqa: S102
    made = names["distiller"]
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    random = np.random.default_rng(0)
    x = tf.constant(random.uniform(0, 255, (4, 12, 12, 3)), tf.float32)
    with tf.GradientTape() as tape:
        total = made.compute_loss(x, tf.constant([0, 1, 2, 3]))
    gradients = tape.gradient(total, made.student.trainable_variables)
    assert [tracker.name for tracker in made.loss_trackers] == metrics
    assert all(tracker.result() > 0 for tracker in made.loss_trackers)
    missing = [
        variable.path
        for variable, gradient in zip(made.student.trainable_variables, gradients, strict=True)
        if gradient is None
    ]
    assert not missing
    classifier = [v for v in made.student.trainable_variables if tuple(v.shape[-1:]) == (5,)]
    assert bool([v for v in classifier if len(v.shape) > 1]) == trains_classifier
    if not trains_classifier:  # SimKD: the teacher's own
        own, copied = teacher.get_layer("logits"), made.student.get_layer("teacher_logits")
        np.testing.assert_array_equal(copied.kernel, own.kernel)
        assert not copied.trainable
