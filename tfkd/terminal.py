"""What is said while something takes long: sentences, and one line that fits the terminal.

On a terminal the line is rewritten in place and gone in the end. Elsewhere (a file, a pipe, a
notebook) no escape code is written, whatever the environment says of colours: a step that takes
longer than a few seconds says so in a plain line on stderr, and again every minute; stdout holds
what was asked for.
"""

import contextlib
import sys
import textwrap
import threading
import time

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.text import Text

REFRESH = 0.25  # seconds between two looks of a line on a terminal
QUIET, AGAIN = 5.0, 60.0  # seconds until a log says what goes on, and says it again
LOG_WIDTH = 80  # columns of a line of a log
GAP = "  "

_steps = []  # of this process, the innermost last


def console(file=None):
    """The console of stdout as it is now, or of another file; no text is read as markup."""
    if file is None and _steps and _steps[-1].live:  # what is printed stands above the line
        return _steps[-1].console
    file = file or sys.stdout
    plain = {"markup": False, "emoji": False, "highlight": False}
    if file is not None and file.isatty():
        return Console(file=file, **plain)
    return Console(file=file, force_terminal=False, width=LOG_WIDTH, **plain)  # FORCE_COLOR or not


def say(text, style=None, file=None):
    """Prints sentences: on a terminal wrapped between words, else a line as it is."""
    own = console(file)
    if own.is_terminal:
        text = "\n".join(_wrapped(line, own.width) for line in text.split("\n"))
    own.print(text, style=style, soft_wrap=True)


@contextlib.contextmanager
def step(what, total=None, counted=True, clock=True):
    """Shows on one line that something goes on; a step within another one takes its place.

    ```python
    with step("Measuring the models", total=len(models)) as shown:
        for model in models:
            measure(model)
            shown.advance()
    ```

    Args:
        what: what goes on, as the line begins.
        total: how many times it will advance, or None.
        counted: whether the line says how often it has advanced of how often.
        clock: whether the line moves by itself; without it only `show` and `advance` do, and a log
            hears nothing.

    Yields:
        `Step`.
    """
    own = console()
    made = (_OnTerminal if own.is_terminal and not own.is_dumb_terminal else _InLog)(
        what, total, counted, clock, own
    )
    with made.shown():
        _steps.append(made)
        try:
            yield made
        finally:
            _steps.remove(made)


@contextlib.contextmanager
def advancing(what, total, shown=True):
    """Gives the function that advances a `step`, which is seen unless `shown` is false."""
    if not shown:
        yield lambda count=1: None
        return
    with step(what, total) as made:
        yield made.advance


class Step:
    """A step that is shown, see `step`.

    Attributes:
        live: whether there is a line on a terminal.
    """

    live = False

    def __init__(self, what, total, counted, clock, console):
        self.what, self.total, self.done, self.parts = what, total, 0, ()
        self.counted, self.clock, self.console = counted, clock, console

    def set_total(self, total):
        """Says how many times it will advance."""
        self.total = total

    def advance(self, count=1):
        """So many more of the total are done."""
        self.done += count
        self.look()

    def show(self, what=None, done=None, parts=None, now=False):
        """Changes what the line says.

        Args:
            what: its beginning.
            done: how many of the total are done.
            parts: what follows, see `fitted`; as much of it as there is room for.
            now: not only at the line's next look.
        """
        self.what = self.what if what is None else what
        self.done = self.done if done is None else done
        self.parts = self.parts if parts is None else parts
        self.look(now)

    def look(self, now=False):
        """Draws the line again, unless it has been drawn just now."""

    def line(self, width, left=None):
        """The line in so many columns.

        Args:
            width: number of columns.
            left: seconds that are left, or None.
        """
        count = [f"{self.done:,}/{self.total:,}"] if self.counted and self.total else []
        time_left = [] if left is None else [f"{clock_time(left)} left"]
        return fitted([self.what, *count, *time_left, *self.parts], width)


class _OnTerminal(Step):
    live = True

    @contextlib.contextmanager
    def shown(self):
        outer = next((own for own in reversed(_steps) if own.live), None)
        self._next = 0.0
        with contextlib.ExitStack() as stack:
            if outer is None:
                self._progress = stack.enter_context(self._new_progress())
            else:
                self._progress = outer._progress
                self._progress.update(outer._task, visible=False)
                stack.callback(self._progress.update, outer._task, visible=True)
            self._task = self._progress.add_task("", total=self.total, step=self)
            stack.callback(self._progress.remove_task, self._task)
            self.look(now=True)
            yield

    def _new_progress(self):
        return Progress(
            _Line(self.console),
            console=self.console,
            transient=True,
            auto_refresh=self.clock,
            refresh_per_second=1 / REFRESH,
        )

    def look(self, now=False):
        moment = time.monotonic()
        if now or moment >= self._next:
            self._next = moment + REFRESH
            own = {"completed": self.done, "total": self.total}
            self._progress.update(self._task, **own, refresh=True)


class _Line(ProgressColumn):
    """A step's line as rich draws it: one column of less than the terminal's width."""

    def __init__(self, console):
        super().__init__()
        self._console = console

    def render(self, task):
        own, left = task.fields["step"], task.time_remaining
        if own.clock and own.total is None:
            own.parts = [clock_time(task.elapsed or 0)]
        text = own.line(self._console.width - 1, left if own.done else None)
        return Text(text, no_wrap=True, overflow="crop")


class _InLog(Step):
    @contextlib.contextmanager
    def shown(self):
        if not self.clock or any(not own.live and own.clock for own in _steps):
            yield
            return
        ended = threading.Event()
        teller = threading.Thread(target=self._tell, args=(ended,), daemon=True)
        teller.start()
        try:
            yield
        finally:
            ended.set()
            teller.join()

    def _tell(self, ended):
        begun, pause, log = time.monotonic(), QUIET, console(sys.stderr)
        while not ended.wait(pause):
            pause = AGAIN
            own = _steps[-1] if _steps else self
            own.parts = [clock_time(time.monotonic() - begun)]
            log.print(own.line(LOG_WIDTH), soft_wrap=True)


def fitted(parts, width):
    """Parts as one line of at most so many columns.

    Args:
        parts: what the line says, the most important first: texts, or tuples of a text's forms, the
            longest first.
        width: number of columns.

    Returns:
        The longest forms that fit all together; where the shortest do not, those of the first parts
        that fit. Only the first part may be cut.
    """
    forms = [(own,) if isinstance(own, str) else own for own in parts]
    for length in range(max(map(len, forms))):
        texts = [own[min(length, len(own) - 1)] for own in forms]
        line = GAP.join(texts)
        if cell_len(line) <= width:
            return line
    line, *others = texts
    if cell_len(line) > width:
        line = set_cell_size(line, max(0, width - 3)) + "..."[:width]
    for text in others:
        if cell_len(line) + len(GAP) + cell_len(text) <= width:
            line += GAP + text
    return line


def clock_time(seconds):
    """Seconds as a clock shows them: 0:09, 12:34, 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _wrapped(line, width):
    """A line wrapped between words: paths and commands stay whole, to be copied."""
    words = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(line, width, **words) if cell_len(line) > width else line
