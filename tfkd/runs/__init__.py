"""The engine's doors: settings in, a run directory and a table out.

Nothing here imports TensorFlow before settings, files and directory have been checked.
"""

from tfkd.runs.directory import RunDirectory
from tfkd.runs.doors.caches import build_cache, cache_info, merge_caches, verify_cache
from tfkd.runs.doors.finished import evaluate_run, export_run, predict, report_run, serve_runs
from tfkd.runs.doors.looks import inspect_data, layers
from tfkd.runs.doors.training import chain, compare, distill, run_recipe
from tfkd.settings import (
    CacheSettings,
    ChainSettings,
    CompareSettings,
    DistillSettings,
    ExportSettings,
    SearchSettings,
    Settings,
    SettingsError,
    WorkerSettings,
)

__all__ = [
    "CacheSettings",
    "ChainSettings",
    "CompareSettings",
    "DistillSettings",
    "ExportSettings",
    "RunDirectory",
    "SearchSettings",
    "Settings",
    "SettingsError",
    "WorkerSettings",
    "build_cache",
    "cache_info",
    "chain",
    "compare",
    "distill",
    "evaluate_run",
    "export_run",
    "inspect_data",
    "layers",
    "merge_caches",
    "predict",
    "report_run",
    "run_recipe",
    "serve_runs",
    "verify_cache",
]
