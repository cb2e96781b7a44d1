"""The trainings of a run, each done once and then found on disk.

Each leaves `<part>.keras` and, last, `<part>.json`; a part with both is done.
"""

import json

from rich.console import Console

from tfkd.files import written
from tfkd.runs.directory import write_json
from tfkd.runs.training import Outcome


class Parts:
    """A directory of trained models and what their trainings ended in.

    Args:
        path: the directory; need not exist.
    """

    def __init__(self, path):
        self.path, self.console = path, Console()

    def model_path(self, part):
        return self.path / f"{part}.keras"

    def done(self, part):
        return (self.path / f"{part}.json").exists()

    def begin(self, inputs):
        """Keeps what the run was begun with; refuses to continue with anything else.

        Raises:
            ValueError: data or teacher changed since.
        """
        path = self.path / "inputs.json"
        if not path.exists():
            write_json(path, inputs)
        kept = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in inputs if kept.get(name) != inputs[name]]
        if changed:
            raise ValueError(
                f"Since the run was begun the {' and the '.join(changed)} changed: what it trained "
                "so far would not fit the rest. Put it back, or start anew with --overwrite."
            )

    def part(self, part, work, *arguments, title=None):
        """The outcome of a part: as found on disk, or of `work(*arguments)`, which is then kept.

        Args:
            part: name of the part.
            work: function that returns (`Outcome`, trained model).
            title: what to call it on the screen.
        """
        result = self.path / f"{part}.json"
        title = title or part
        if self.done(part):
            outcome = Outcome(**json.loads(result.read_text(encoding="utf-8")))
            self.console.rule(f"{title}: done before")
        else:
            self.console.rule(title)
            outcome, model = work(*arguments)
            with written(self.model_path(part)) as partial:
                model.save(partial)
            write_json(result, outcome._asdict())
        kept = f"epoch {outcome.epoch} kept, {outcome.seconds:.0f} s" if outcome.epoch else "loaded"
        line = f"{title}: validation accuracy {100 * outcome.accuracy:.2f} % ({kept})"
        self.console.print(line, highlight=False, soft_wrap=True)
        return outcome


def loaded(figures):
    """The outcome of a teacher that was not trained, of its figures on the validation split."""
    return Outcome({}, 0, figures["accuracy"], figures["cross_entropy"], 0.0)
