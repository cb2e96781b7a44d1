"""Peak memory of a fit, each way of training in a process of its own.

python -m benchmarks.memory NAME HINTS STEPS DIRECTORY     (one way, in this process)
"""

import json
import os
import sys
import tempfile

from benchmarks import processes, record, timing

TIMES = 10
STEPS = 30
TORCH = "PyTorch loop"
ALONE = "PyTorch, student alone"
CACHED = "tfkd cached"


def main(options):
    """Runs every way, with and without hints; writes JSON and table."""
    from benchmarks.ways import WAYS

    steps = 3 if options.quick else STEPS
    result = {"machine": timing.machine(), "teacher": TIMES, "steps": steps, "ways": {}}
    for name in (*WAYS, ALONE, TORCH):
        for hints in (0,) if name in ("stock", ALONE) else (0, 1):
            with tempfile.TemporaryDirectory() as directory:
                arguments = (hints, steps, directory)
                if name == CACHED:  # built by another process, as in life
                    processes.run("benchmarks.memory", "build", *arguments)
                found = processes.run("benchmarks.memory", name, *arguments)
            result["ways"].setdefault(name, {})["logits + 2 hints" if hints else "logits"] = found
            print(name, hints, found)
    record.write("memory", result, options.quick)
    if not options.quick:
        record.put("memory", _table(result))


def _table(result):
    kinds = ("logits", "logits + 2 hints")
    rows = [
        [name, *(f"{found[kind]['fit']:,.0f} MB" if kind in found else "" for kind in kinds)]
        for name, found in result["ways"].items()
    ]
    return record.table(["peak of the whole process", *kinds], rows)


def _measured(name, hints, steps, directory):
    """{"ready": MB before the fit, "fit": MB after}, the largest until then."""
    if name in (TORCH, ALONE):
        from benchmarks import torch_ways

        loop = torch_ways.Loop(TIMES if name == TORCH else None, bool(hints))
        ready = processes.peak_megabytes()
        loop.run(steps)
        return {"ready": ready, "fit": processes.peak_megabytes()}
    from benchmarks import ways
    from benchmarks.constants import BATCH, HINTS
    from benchmarks.setting import examples, student, teacher_of

    pairs, dataset = HINTS if hints else {}, examples(16 * BATCH)
    if name == "build":
        ways.build_cache(student(), teacher_of(TIMES), pairs, dataset, directory)
        return {}
    if name == CACHED:  # without a teacher in memory
        model, batches = ways.read_cache(student(), pairs, dataset, directory)
    else:
        model, batches = ways.WAYS[name](student(), teacher_of(TIMES), pairs, dataset, directory)
    ready = processes.peak_megabytes()
    model.fit(batches.repeat(), steps_per_epoch=steps, verbose=0)
    return {"ready": ready, "fit": processes.peak_megabytes()}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    name, hints, steps, directory = sys.argv[1:]
    print(json.dumps(_measured(name, int(hints), int(steps), directory)))
