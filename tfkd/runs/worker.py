"""One worker of a run, started by a supervisor: `python -m tfkd.runs.worker FILE`."""

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path

from tfkd._extras import MissingExtraError
from tfkd.export.errors import ExportCheckError
from tfkd.files import write_json, write_text
from tfkd.runs import children
from tfkd.runs.directory import RunDirectory
from tfkd.runs.rows import distill_table
from tfkd.runs.tensorflow_output import import_tensorflow
from tfkd.settings import DistillSettings
from tfkd.settings.workers import TF_CONFIG, Cluster

REFUSED = 3  # exit code: starting it again would help nothing


def main(path):
    """Works, and ends the process at once: TensorFlow would wait for workers that have ended.

    Args:
        path: JSON file of the supervisor, see `tfkd.runs.supervisor`.
    """
    told = json.loads(Path(path).read_text(encoding="utf-8"))
    children.end_with_parent(told["parent"])
    code = 1
    try:
        work(told)
        code = 0
    except (ValueError, OSError, ExportCheckError, MissingExtraError) as error:
        write_json(told["error"], [type(error).__name__, str(error)])
        code = REFUSED
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def work(told):
    """Trains with the others; the chief writes the run and says that it is finished."""
    cluster, index = Cluster(len(told["addresses"]), tuple(told["addresses"])), told["index"]
    os.environ[TF_CONFIG] = json.dumps(
        {"cluster": {"worker": told["addresses"]}, "task": {"type": "worker", "index": index}}
    )
    settings = DistillSettings.from_toml(told["settings"], trust=True)
    import_tensorflow()
    import tensorflow

    from tfkd.runs import engine
    from tfkd.runs.team import Team

    team = Team(cluster, index, told["checkpoint_minutes"], Path(told["begun"]))
    directory = RunDirectory(told["out"])
    flags = {"overwrite": told["overwrite"], "resume": told["resume"]}
    engine.run(distill_table(settings), directory, **flags, team=team)
    if team.chief:
        write_text(told["finished"], "")
    team.says("finished")
    # Who is told first may end before the others have heard it: they meet once more.
    with contextlib.suppress(tensorflow.errors.OpError):
        team.says("the end")


if __name__ == "__main__":
    main(sys.argv[1])
