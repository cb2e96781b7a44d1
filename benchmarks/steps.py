"""Step time of every way of training, side by side, for three sizes of teacher."""

import concurrent.futures
import multiprocessing
import tempfile

import keras

from benchmarks import record, timing
from benchmarks.constants import BATCH, HINTS, TEACHER_WIDTHS
from benchmarks.setting import examples, student, teacher_of
from benchmarks.ways import WAYS
from tfkd.evaluation import multiply_adds

EXAMPLES = 16 * BATCH

# Channels of the teacher's hints where an adapter (1 x 1 convolution) must bring the student's to
# them.
ADAPTED_CHANNELS = (192, 384)


def main(options):
    """Runs the race, writes JSON, table and picture."""
    sizes = (1,) if options.quick else tuple(TEACHER_WIDTHS)
    rounds = options.rounds or (2 if options.quick else 5)
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as directory,
        concurrent.futures.ProcessPoolExecutor(1, context) as process,
    ):
        runs = _keras_runs(sizes, directory) | _torch_runs(sizes, process)
        taken = timing.race(runs, rounds, "stock")
    result = {
        "machine": timing.machine(),
        "student": _size(student()),
        "teachers": {times: _size(teacher_of(times)) for times in sizes},
        "rounds": rounds,
        "ways": timing.ratios(taken, "stock"),
    }
    record.write("steps", result, options.quick)
    print(_table(result))
    if not options.quick:
        record.put("steps", _table(result))
        _plot(result)


def _size(model):
    return {"parameters": model.count_params(), "multiply_adds": multiply_adds(model)}


def _keras_runs(sizes, directory):
    dataset, runs = examples(EXAMPLES), {}

    def add(name, way, hints, teacher, place):
        keras.utils.set_random_seed(0)
        runs[name] = timing.fitting(*WAYS[way](student(), teacher, hints, dataset, place))

    add("stock", "stock", {}, None, None)
    for times in sizes:
        for kind, hints in {"logits": {}, "logits + 2 hints": HINTS}.items():
            for way in WAYS:
                if way != "stock":
                    name = f"{way}, {kind}, {times}x"
                    add(name, way, hints, teacher_of(times), f"{directory}/{times} {kind}")
    times = sizes[len(sizes) // 2]
    for way in ("tfkd live", "tfkd cached"):
        teacher = teacher_of(times, hint_channels=ADAPTED_CHANNELS)
        name = f"{way}, logits + 2 adapted hints, {times}x"
        add(name, way, HINTS, teacher, f"{directory}/adapted")
    return runs


def _torch_runs(sizes, process):
    """The PyTorch loops, after a check that both sides train networks of the same size."""
    from benchmarks import torch_ways  # the extra `bench`

    def run(times, hints):
        return lambda steps: process.submit(
            torch_ways.seconds_per_step, times, hints, steps
        ).result()

    def check(model, *which):
        count = process.submit(torch_ways.parameters, *which).result()
        assert count == model.count_params(), f"{which}: {count} != {model.count_params()}"

    check(student(), "student")
    runs = {"PyTorch, student alone": run(None, False)}
    for times in sizes:
        check(teacher_of(times), "teacher", times)
        runs[f"PyTorch loop, logits, {times}x"] = run(times, False)
        runs[f"PyTorch loop, logits + 2 hints, {times}x"] = run(times, True)
    return runs


def _table(result):
    """Ratios to stock `fit`, a row for each way and a column for each teacher."""
    ways, sizes = result["ways"], list(result["teachers"])

    def cell(name):
        figure = ways.get(name)
        if figure is None:
            return ""
        low, high = figure["spread"]
        return f"{figure['ratio']:.2f} ({low:.2f}–{high:.2f})"

    milliseconds = 1000 * ways["stock"]["seconds"]
    rows = [
        [f"stock `student.fit` ({milliseconds:.0f} ms)", *["1"] * len(sizes)],
        ["PyTorch, student alone", *[cell("PyTorch, student alone")] * len(sizes)],
    ]
    kinds = dict.fromkeys(name.rsplit(", ", 1)[0] for name in ways if name.endswith("x"))
    for kind in sorted(kinds, key=lambda kind: kind.split(", ")[1]):
        rows.append([kind, *(cell(f"{kind}, {times}x") for times in sizes)])
    return record.table(["", *(f"teacher {times}×" for times in sizes)], rows)


def _plot(result):
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    sizes = [int(times) for times in result["teachers"]]
    colours = dict(
        zip([*WAYS, "PyTorch loop"], ("black", "C0", "C1", "C3", "C2", "C4"), strict=True)
    )
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for way, colour in colours.items():
        if way == "stock":
            axes.axhline(1, color=colour, linewidth=1, label="stock student.fit, no teacher")
            continue
        for kind, style in {"logits": ":", "logits + 2 hints": "-"}.items():
            heights = [result["ways"][f"{way}, {kind}, {times}x"]["ratio"] for times in sizes]
            axes.plot(sizes, heights, style, color=colour, marker="o", label=f"{way}, {kind}")
    axes.set(xscale="log", yscale="log", xlabel="teacher's cost / student's cost (multiply-adds)")
    axes.set_ylabel("step time / stock student.fit")
    axes.set_xticks(sizes, [f"{times}×" for times in sizes])
    axes.minorticks_off()
    ticks = [0.5, 1, 2, 5, 10, 20]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    folder = record.HERE / "pictures"
    figure.savefig(folder / "step_time.png", dpi=120)
    print(f"written: {folder / 'step_time.png'}")
