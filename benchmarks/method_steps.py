"""What a training step costs with each method of `tfkd losses`, beside plain logits.

    python -m benchmarks.method_steps [--batch 256] [--rounds 5] [name ...]

The student and a teacher of ten times its cost are those of the speed benchmarks; the teacher's
answers are stored, as `tfkd distill` trains, so that a step is the student's and the loss's alone.
Every method takes its turn in each round; what counts is processor time, of all threads, which
other jobs on the machine disturb less than the clock.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import statistics
import time

import keras
import tensorflow as tf

import tfkd
from benchmarks import record, setting, timing
from tfkd.published import METHODS
from tfkd.runs import methods
from tfkd.settings import DistillSettings

BASE = "kd"
EXAMPLES, NEGATIVES = 50_000, 1024


def names():
    """The methods that are a loss; those that change the student cost what their models cost."""
    taken = [name for name, method in METHODS.items() if method.how == "--loss"]
    return [*taken, "crd"]


def distiller(name):
    keras.utils.set_random_seed(0)
    teacher, student = setting.teacher_of(10), setting.student()
    if name == "crd":
        layers = (tfkd.models.features_layer(model) for model in (teacher, student))
        loss = tfkd.losses.ContrastiveDistillation(
            EXAMPLES, NEGATIVES, True, 0.07, 0.5, 128, *layers
        )
        made = tfkd.Distiller(teacher, student, loss)
    else:
        made = methods.system(DistillSettings(loss=[name]), teacher, student).distiller(teacher)
    made.compile("adam", setting.cross_entropy())
    return made


def stored(made, size):
    """One batch with the teacher's stored answers, again and again."""
    x, y = next(iter(setting.examples(size).batch(size)))
    x = tf.cast(x, tf.float32)
    knowledge = {**made.knowledge(x), "index": tf.range(size, dtype=tf.int64)}
    element = (x, y, tf.ones(size), knowledge)
    return tf.data.Dataset.from_tensors(element).repeat()


class ProcessorClock(keras.callbacks.Callback):
    """Notes the processor time at the end of each step."""

    def on_train_begin(self, logs=None):
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.process_time())


def fitting(made, batches):
    """A function of the number of steps to processor seconds a step."""

    def run(steps):
        clock = ProcessorClock()
        made.fit(batches, steps_per_epoch=steps + 1, verbose=0, callbacks=[clock])
        return (clock.ends[-1] - clock.ends[0]) / steps

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help="methods; all unless told")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    wanted = dict.fromkeys([BASE, *(given.names or names())])
    runs = {}
    for name in wanted:
        made = distiller(name)
        runs[name] = fitting(made, stored(made, given.batch))
    seconds = timing.race(runs, given.rounds, BASE)
    rows = []
    for name, own in seconds.items():
        ratios = [one / base for one, base in zip(own, seconds[BASE], strict=True)]
        middle = statistics.median(ratios)
        rows.append([name, f"{middle:.2f} ({min(ratios):.2f}–{max(ratios):.2f})"])
    base = 1000 * statistics.median(seconds[BASE])
    print(record.table(["method", f"of a step with {BASE} ({base:.0f} ms of processors)"], rows))
    if not given.names:
        record.write("method_steps", {"batch": given.batch, "seconds": seconds})


if __name__ == "__main__":
    main()
