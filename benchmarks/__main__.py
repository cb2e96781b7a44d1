"""python -m benchmarks [NAME ...]: all benchmarks of speed, or single ones by name."""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import importlib
import warnings

NAMES = ("steps", "kernels", "cache", "memory", "equality", "accuracy")


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument("--rounds", type=int, help="rounds of each race")
    accuracy = parser.add_argument_group("accuracy")
    accuracy.add_argument("--data-dir", help="where TFDS finds Fashion-MNIST; needed")
    accuracy.add_argument("--teacher", metavar="FILE", help="a trained teacher, .keras; needed")
    accuracy.add_argument("--student", default="modified_alexnet", help="of tfkd.models.names()")
    accuracy.add_argument("--width", type=float, default=0.5, help="of the student")
    accuracy.add_argument(
        "--epochs", type=int, default=20, help="of stock fit; others stop earlier"
    )
    accuracy.add_argument("--limit", type=int, help="training examples, all by default")
    accuracy.add_argument("--seeds", type=int, default=3)
    accuracy.add_argument("--ways", nargs="+", help="some of those in ways.py; all by default")
    accuracy.add_argument(
        "--hints",
        nargs="+",
        default=[],
        metavar="TEACHER=STUDENT",
        help="layers, logits alone if none",
    )
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    warnings.simplefilter("ignore")
    for name in options.names or NAMES:
        importlib.import_module(f"benchmarks.{name}").main(options)


if __name__ == "__main__":
    main()
