"""Which defaults pay: ways to distil against the same student alone, on many settings.

    python -m benchmarks.defaults --data-dir DIR --teachers DIR    # 70 minutes on one processor
    python -m benchmarks.defaults --tables                         # the tables once more

Every setting is data, a teacher, a student and a budget, few labels and many, strong teachers and
weak ones, 4 thousand to a million parameters. The candidates first race: all of them on a few
settings with one seed; the best quarter, and what stands as the default, go on to all settings with
every seed. All are runs of `tfkd compare`: same first weights, batches and epochs as the student
alone, the epoch chosen on the validation split. A candidate is chosen by its worst mean gain over
the settings on the validation split, then by its mean gain; the test split is read for the table.

`--teachers` holds cifar10_teacher.keras, fashion_mnist_teacher.keras and rsscn7_teacher.keras,
trained on the whole training splits; settings with a "weak" teacher train their own on the few
images that the student has. Finished settings are found again in `--out`: a candidate that is added
later is trained beside them.
"""

import argparse
import hashlib
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from benchmarks import record
from tfkd import defaults, runs

ALONE = "alone"
DEFAULT = f"student_loss_weight={defaults.STUDENT_LOSS_WEIGHT:g}"
BEFORE = "temperature=4 student_loss_weight=0.1 hints=auto"  # the defaults until November 2026
SMALL, TINY = "modified_alexnet width=0.125", "modified_alexnet width=0.1"
MEDIUM, RESNET = "modified_alexnet width=0.5", "resnet depth=8"
MOBILE = "MobileNetV2 alpha=0.35 image_size=64"
OWN = {"teacher": "resnet depth=8"}
PAIRS = "digit_pairs"

# Name → what `tfkd compare` is given; a teacher that is not named is that of the data set's file.
SETTINGS = {
    "digits, 300 images": {"data": "digits", "limit": 300, "student": TINY, "epochs": 40, **OWN},
    "digits": {"data": "digits", "student": SMALL, "epochs": 20, **OWN},
    # Of scikit-learn's digits, two in a picture: many classes, which no other set here has.
    "digit pairs, 100 classes": {"data": PAIRS, "student": SMALL, "epochs": 8, **OWN},
    "Fashion-MNIST, 1,000": {
        **{"data": "fashion_mnist", "limit": 1000, "student": SMALL, "epochs": 15},
    },
    "Fashion-MNIST, 1,000, weak teacher": {
        **{"data": "fashion_mnist", "limit": 1000, "student": SMALL, "epochs": 15, **OWN},
    },
    "Fashion-MNIST, 5,000": {
        **{"data": "fashion_mnist", "limit": 5000, "student": MEDIUM, "epochs": 6},
    },
    "Fashion-MNIST, 20,000": {
        **{"data": "fashion_mnist", "limit": 20000, "student": SMALL, "epochs": 3},
    },
    "CIFAR-10, 2,000": {
        **{"data": "cifar10", "limit": 2000, "student": RESNET, "epochs": 10},
        "augment": "crop_flip",
    },
    "CIFAR-10, 10,000": {
        **{"data": "cifar10", "limit": 10000, "student": MEDIUM, "epochs": 4},
        "augment": "crop_flip",
    },
    "RSSCN7, 64 px": {"data": "rsscn7", "student": MOBILE, "epochs": 8, "augment": "flip"},
}
RACED_ON = ("digit pairs, 100 classes", "Fashion-MNIST, 1,000", "CIFAR-10, 2,000")
MORE_SEEDS = {"digits, 300 images": 4, "digits": 2}  # times as many: their splits are small
CANDIDATES = (
    *(f"student_loss_weight={weight}" for weight in (0.1, 0.3, 0.5)),
    *(f"student_loss_weight=0.1 softness={softness}" for softness in (0.6, 0.95)),
    "student_loss_weight=0.1 hints=auto",
    "student_loss_weight=0.1 hints=auto hint_weight=0.01",
    BEFORE,
    *(
        f"temperature={temperature} student_loss_weight={weight}"
        for temperature in (1, 2, 4)
        for weight in (0.1, 0.3, 0.5, 0.7)
    ),
)
VIEWS = 4


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="where TFDS finds its data")
    parser.add_argument("--teachers", type=Path, help="folder of trained teachers")
    parser.add_argument("--out", type=Path, default=Path("saved_models/defaults"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--candidates", nargs="+", help="instead of the race's best")
    parser.add_argument("--tables", action="store_true", help="from the results of before")
    return parser.parse_args()


def digit_pairs(folder, training=4400, test=2000):
    """A folder of pictures of two digits, "00" to "99", of 16 x 16 pixels; no digit is in both."""
    from sklearn.datasets import load_digits

    digits, random = load_digits(), np.random.default_rng(0)
    pixels = np.round(digits.images * 15.9375).astype("uint8")
    order = random.permutation(len(pixels))
    if folder.exists():
        return folder
    partial = folder.with_name(f"{folder.name}.partial")
    for split, of, count in (("train", order[:1200], training), ("test", order[1200:], test)):
        for number in range(count):
            pair = random.choice(of, 2)
            place = partial / split / "".join(str(digits.target[one]) for one in pair)
            place.mkdir(parents=True, exist_ok=True)
            picture = np.zeros((16, 16), "uint8")
            picture[4:12] = np.concatenate(pixels[pair], axis=1)
            keras.utils.save_img(place / f"{number}.png", picture[..., None], scale=False)
    return partial.rename(folder)


def trained(given, name, candidates, seeds):
    """Trains a setting's rows, or finds them trained; list of dicts, one a training."""
    own = SETTINGS[name]
    if "teacher" not in own:
        own = {**own, "teacher": str(given.teachers / f"{own['data']}_teacher.keras")}
    if own["data"] == PAIRS:
        own = {**own, "data": str(digit_pairs(given.out / PAIRS))}
    seeds *= MORE_SEEDS.get(name, 1)
    digest = hashlib.sha256(" ".join([*candidates, str(seeds)]).encode()).hexdigest()[:8]
    out = given.out / f"{'-'.join(name.replace(',', '').split())}-{digest}"
    settings = runs.CompareSettings(
        **own,
        setting=candidates,
        seeds=seeds,
        views=VIEWS,
        teacher_epochs=own["epochs"],
        data_dir=given.data_dir,
        cache=str(given.out / "knowledge"),
        any_teacher=True,
    )
    content = runs.compare(settings, out, resume=out.exists())
    found = []
    for row in content["rows"]:
        for number, seed in enumerate(content["seeds"]):
            training = content["trainings"][f"{seed}/{row['file']}"]
            test = content["figures"][row["name"]][number]
            figures = ("accuracy", "cross_entropy", "calibration_error")
            found.append(
                {
                    "setting": name,
                    "candidate": row["name"],
                    "seed": seed,
                    **{figure: training[figure] for figure in (*figures[:2], "seconds")},
                    "test": {figure: test[figure] for figure in figures},
                }
            )
    return found


def paired(found, figure, part=None):
    """{candidate: {setting: list of differences to the student alone, one a seed}}."""

    def value(own):
        return (own[part] if part else own)[figure]

    alone = {
        (own["setting"], own["seed"]): value(own) for own in found if own["candidate"] == ALONE
    }
    gains = {}
    for own in found:
        if own["candidate"] != ALONE:
            key = own["setting"], own["seed"]
            of_setting = gains.setdefault(own["candidate"], {}).setdefault(own["setting"], [])
            of_setting.append(value(own) - alone[key])
    return gains


def ranking(found):
    """Candidates, the best first: by the worst setting's mean gain, then by the mean gain."""

    def key(settings):
        means = [statistics.fmean(own) for own in settings.values()]
        return min(means), statistics.fmean(means)

    gains = paired(found, "accuracy")
    most = max(len(own) for own in gains.values())
    whole = {name: own for name, own in gains.items() if len(own) == most}
    return sorted(whole, key=lambda name: key(whole[name]), reverse=True)


def left_out(found):
    """{setting's data: (candidate chosen on all other data, its mean gain there in points)}."""
    chosen = {}
    for data in dict.fromkeys(own["data"] for own in SETTINGS.values()):
        here = {name for name, own in SETTINGS.items() if own["data"] == data}
        others = [own for own in found if own["setting"] not in here]
        mine = [own for own in found if own["setting"] in here]
        if not (others and mine):
            continue
        best = ranking(others)[0]
        gains = paired(mine, "accuracy").get(best, {})
        chosen[data] = best, 100 * statistics.fmean(x for own in gains.values() for x in own)
    return chosen


def overview(found):
    """A table of candidates over all settings."""
    gains, entropies = paired(found, "accuracy"), paired(found, "cross_entropy")
    test = paired(found, "accuracy", "test")
    errors = {}
    for own in found:
        key = own["setting"], own["candidate"]
        errors.setdefault(key, []).append(own["test"]["calibration_error"])
    rows = []
    for name in ranking(found):
        means = {s: 100 * statistics.fmean(own) for s, own in gains[name].items()}
        worse = [statistics.fmean(own) > 0 for own in entropies[name].values()]
        ratios = [
            statistics.fmean(errors[s, name]) / statistics.fmean(errors[s, ALONE]) for s in means
        ]
        tests = [100 * statistics.fmean(own) for own in test[name].values()]
        rows.append(
            [
                f"`{name}`",
                len(means),
                f"{min(means.values()):+.2f}",
                f"{statistics.fmean(means.values()):+.2f}",
                f"{len(worse) - sum(worse)} of {len(worse)}",
                f"{statistics.fmean(ratios):.2f}",
                f"{min(tests):+.2f}",
                f"{statistics.fmean(tests):+.2f}",
            ]
        )
    header = ["candidate", "settings", "worst gain", "mean gain", "cross-entropy no worse"]
    return record.table([*header, "calibration error ×", "test: worst", "test: mean"], rows)


def details(found, candidates):
    """A table of settings: gains on the validation split, mean ± standard deviation."""
    gains, entropies = paired(found, "accuracy"), paired(found, "cross_entropy")
    rows = []
    for setting in SETTINGS:
        if any(setting in gains.get(name, {}) for name in candidates):
            own = [
                100 * x["accuracy"]
                for x in found
                if (x["setting"], x["candidate"]) == (setting, ALONE)
            ]
            row = [setting, _spread(own, "")]
            for name in candidates:
                values = gains.get(name, {}).get(setting)
                if values is None:
                    row.append("–")
                    continue
                nats = statistics.fmean(entropies[name][setting])
                row.append(f"{_spread([100 * v for v in values], '+')}, {nats:+.3f}")
            rows.append(row)
    return record.table(["setting", "alone (%)", *(f"`{name}`" for name in candidates)], rows)


def _spread(values, sign):
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{sign}.1f}{spread}"


def put_tables(content):
    raced, found = content["raced"], content["final"]
    record.put("defaults race", overview(raced))
    record.put("defaults", overview(found))
    shown = [*ranking(found)[:3], BEFORE]
    record.put("defaults by setting", details(found, shown))
    lines = [[data, f"`{best}`", f"{gain:+.2f}"] for data, (best, gain) in left_out(found).items()]
    record.put("defaults left out", record.table(["left out", "chosen", "gain there"], lines))
    for name in ("raced", "final"):
        print(name, overview(content[name]), sep="\n")


def main():
    given = arguments()
    content = record.read("defaults") or {"raced": [], "final": [], "seconds": 0}
    if given.tables:
        return put_tables(content)
    begin, before = time.monotonic(), content["seconds"]

    def keep(part, found):
        """Puts trainings in the place of those before them, and writes everything."""

        def key(own):
            return own["setting"], own["candidate"], own["seed"]

        new = {key(own) for own in found}
        content[part] = [own for own in content[part] if key(own) not in new] + found
        content["seconds"] = round(before + time.monotonic() - begin)
        record.write("defaults", content)

    candidates = given.candidates
    if candidates is None:
        for name in RACED_ON:
            keep("raced", trained(given, name, list(CANDIDATES), 1))
        best = ranking(content["raced"])[: len(CANDIDATES) // 4]
        candidates = [*best, *(own for own in (DEFAULT, BEFORE) if own not in best)]
    for name in given.settings:
        keep("final", trained(given, name, candidates, given.seeds))
    put_tables(content)


if __name__ == "__main__":
    main()
