"""Two checkouts' train steps, in turns: `scripts/race_steps OLD NEW [ROUNDS]`.

Each checkout runs in a process of its own, started once; they are asked for a few steps at a time,
in the other order every time, so that a machine that drifts slows both.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile

_ROWS = ("tfkd live", "tfkd cached")


def main(old, new, rounds):
    """Prints a line a row: milliseconds of both and the median of their ratios."""
    sides = [_Side(old), _Side(new)]
    steps = {}
    for name in sides[0].names:
        for side in sides:
            side.ask(name, 3)  # traces, warms up
        steps[name] = int(min(15, max(4, 1.8 / sides[0].ask(name, 3))))
    taken = {name: [] for name in steps}
    for turn in range(rounds):
        for number, name in enumerate(steps):
            order = [0, 1] if (turn + number) % 2 == 0 else [1, 0]
            found = {side: sides[side].ask(name, steps[name]) for side in order}
            taken[name].append((found[0], found[1]))
    for name, pairs in taken.items():
        ratios = [b / a for a, b in pairs]
        before, after = (1000 * statistics.median(side) for side in zip(*pairs, strict=True))
        print(
            f"{name:40s} old {before:7.1f} ms, new {after:7.1f} ms, ratio "
            f"{statistics.median(ratios):.3f} ({min(ratios):.2f}-{max(ratios):.2f})"
        )


class _Side:
    """One checkout's process."""

    def __init__(self, root):
        environment = {**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            cwd=root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.names = self._read()

    def ask(self, name, steps):
        """Seconds a step."""
        self._process.stdin.write(json.dumps([name, steps]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self):
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)["answer"]
        raise RuntimeError("A checkout's process ended; run it by hand with --serve to see why.")


def serve():
    """Makes every row and times those that are asked for, line by line."""
    import keras

    from benchmarks import timing
    from benchmarks.constants import HINTS, TEACHER_WIDTHS
    from benchmarks.setting import examples, student, teacher_of
    from benchmarks.steps import ADAPTED_CHANNELS, EXAMPLES
    from benchmarks.ways import WAYS

    dataset, runs = examples(EXAMPLES), {}

    def add(name, way, hints, teacher, place):
        keras.utils.set_random_seed(0)
        runs[name] = timing.fitting(*WAYS[way](student(), teacher, hints, dataset, place))

    with tempfile.TemporaryDirectory() as folder:
        add("stock", "stock", {}, None, None)
        for times in TEACHER_WIDTHS:
            for kind, hints in {"logits": {}, "logits + 2 hints": HINTS}.items():
                for way in _ROWS:
                    place = f"{folder}/{times} {kind}"
                    add(f"{way}, {kind}, {times}x", way, hints, teacher_of(times), place)
        times = list(TEACHER_WIDTHS)[1]
        for way in _ROWS:
            teacher = teacher_of(times, hint_channels=ADAPTED_CHANNELS)
            add(f"{way}, 2 adapted hints, {times}x", way, HINTS, teacher, f"{folder}/adapted")
        print(json.dumps({"answer": list(runs)}), flush=True)
        for line in sys.stdin:
            name, steps = json.loads(line)
            print(json.dumps({"answer": runs[name](steps)}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        sys.path.insert(0, os.environ["PYTHONPATH"])
        serve()
    else:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
