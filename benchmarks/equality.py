"""Are the fast way's numbers those of the plain one? Trainings of 200 steps, side by side.

Fused kernels and a float32 cache on the one side, Keras's own layers and the live teacher on the
other; same start, same batches. Sums are taken in another order, and training amplifies what that
changes, above all where a ReLU's input crosses zero. How much is nobody's fault is told by the
plain way itself, with the examples of each batch in the opposite order.
"""

import tempfile

import keras
import numpy as np

import tfkd
from benchmarks import record, timing
from benchmarks.constants import HINTS
from benchmarks.setting import cross_entropy, examples, student, teacher
from benchmarks.ways import distiller_of
from tfkd import data

BATCH = 16
STEPS = 200
TEACHER_WIDTH = 8
LIMIT = 1e-4


def main(options):
    """Trains with ReLU and with SiLU; AssertionError where the smooth one's weights differ."""
    steps = 20 if options.quick else STEPS
    result = {"machine": timing.machine(), "steps": steps, "batch": BATCH, "differences": {}}
    for activation in ("silu", "relu"):
        plain = _trained(activation, steps)
        turned = _trained(activation, steps, turned=True)
        with tempfile.TemporaryDirectory() as directory:
            fast = _trained(activation, steps, directory)
        result["differences"][activation] = {
            "fused, cached": difference(fast, plain),
            "plain, batches turned round": difference(turned, plain),
        }
        print(activation, result["differences"][activation])
    record.write("equality", result, options.quick)
    if not options.quick:
        header = ["student with", *result["differences"]["silu"]]
        rows = [
            [name, *(f"{x:.1e}" for x in row.values())]
            for name, row in result["differences"].items()
        ]
        record.put("equality", record.table(header, rows))
    found = result["differences"]["silu"]["fused, cached"]
    assert found < LIMIT, f"the weights differ by {found:.1e} of their norm"


def difference(groups, references):
    """|a - b| / |b| in the Euclidean norm; the larger of trained weights and moving statistics."""

    def relative(weights, reference):
        a, b = (np.concatenate([w.ravel() for w in side]) for side in (weights, reference))
        return float(np.linalg.norm(a - b) / np.linalg.norm(b))

    return max(map(relative, groups, references))


def _trained(activation, steps, directory=None, turned=False):
    """[trained weights, moving statistics] of the student: by fused kernels and a cache in
    `directory`, else plain and live."""
    keras.utils.set_random_seed(0)
    dataset = examples(steps * BATCH // 2)  # two epochs
    models = teacher(TEACHER_WIDTH), student(activation)
    if directory is None:
        distiller = distiller_of(tfkd, *models, HINTS, fused=False)
        batches = data.batches(dataset, BATCH, shuffle=True, seed=0)
        if turned:
            batches = batches.map(lambda images, labels: (images[::-1], labels[::-1]))
    else:
        writer = distiller_of(tfkd, *models, HINTS)
        cache = tfkd.TeacherCache.build(
            directory, writer, dataset, batch_size=BATCH, dtype="float32", verbose=0
        )
        distiller = distiller_of(tfkd, None, models[1], HINTS, fused=True)
        batches = cache.dataset(dataset, BATCH, shuffle=True, seed=0)
    distiller.compile(keras.optimizers.SGD(0.01, momentum=0.9), cross_entropy())
    distiller.fit(batches, epochs=2, verbose=0)
    assert distiller.optimizer.iterations == steps
    groups = distiller.student.trainable_weights, distiller.student.non_trainable_weights
    return [[np.asarray(weight) for weight in group] for group in groups]
