"""A search for the weights of a distillation: `tfkd search`.

Nothing here imports TensorFlow before settings, files and directory have been checked.
"""

from tfkd._extras import needs_extra
from tfkd.runs.directory import SETTINGS, RunDirectory
from tfkd.runs.doors.training import exported
from tfkd.runs.tensorflow_output import import_tensorflow
from tfkd.settings.base import read_toml

__all__ = ["search"]


def search(settings, out, overwrite=False):
    """Searches the weights of a distillation's losses, and trains final students with the best.

    The teacher is trained (or loaded) and asked once; all trials learn from its stored answers.
    Trials are compared on the validation split: they race over epochs, then the best few and the
    defaults, which are trial 0, over seeds. Where the best is not better than the defaults beyond
    chance the defaults are kept. The final students are a run of `distill`'s kind, of seeds that no
    trial has seen: the student alone, distilled by the defaults, and by what was found; only they
    read the test split. Called again with the same settings it goes on where it was stopped; with
    more trials it adds them.

    In a process whose environment has KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and
    KERASTUNER_ORACLE_PORT it is the chief ("chief" in its id) or a worker of a search over several
    hosts that share `out`.

    Args:
        settings: `SearchSettings`.
        out: the search's directory: new, empty, or with this very search.
        overwrite: replace a search that is there.

    Returns:
        dict, the content of `run.json`, and under "search" that of `search.json`; None in a worker.

    Raises:
        ValueError: settings, files, data or models that do not fit together; another search in
            `out`; no trial with a result.
        FileExistsError: `out` holds something else, or another process writes there.
        FileNotFoundError: data or a teacher file that is not there.
        TimeoutError: a worker's chief does not answer.
        ChildProcessError: local workers keep dying.
        ModuleNotFoundError: the extra "tune" is not installed.
        ExportCheckError: the export that `settings.export` asked for failed.
    """
    needs_extra("tune", "tfkd search")
    settings = settings.resolved()
    settings.check_files()
    directory = RunDirectory(out)
    begun = directory.begun and not overwrite
    if begun and (directory / SETTINGS).exists():
        if "trials" not in read_toml(directory / SETTINGS):
            raise FileExistsError(
                f'"{directory.path}" holds a run that is no search. Give another --out, or '
                "--overwrite to replace it."
            )
    directory.check_free(settings, overwrite=overwrite, resume=begun)
    from tfkd.runs import parallel

    jobs = parallel.jobs_of(settings)
    import_tensorflow()
    from tfkd.runs.search.running import run

    done = run(settings, directory, overwrite=overwrite, jobs=jobs)
    if done is None:  # a worker
        return None
    record, found = done
    return {**exported(record, directory, settings).content(), "search": found.model_dump()}
