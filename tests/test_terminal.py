"""What is said while something takes long fits the terminal, and leaves no escape code in a log."""

import io
import re
import sys
import time

import pytest

from tfkd import terminal

ESCAPE = "\x1b"


class Screen(io.StringIO):
    """A stdout that is a terminal."""

    def isatty(self):
        return True

    @property
    def frames(self):
        """What stood on the screen's lines, one after the other, without control codes."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())
        return [line for line in re.split(r"[\r\n]", text) if line.strip()]


@pytest.fixture
def screen(monkeypatch):
    """Function of a width that makes stdout a terminal of so many columns.

    Within a test: pytest puts its own stdout back between fixtures and the test.
    """

    def made(width):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("LINES", "24")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", Screen())
        return sys.stdout

    return made


PARTS = ["epoch 12/30", ("validation accuracy 95.31 %", "acc 95.3%"), "loss 0.213", "labels 0.11"]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (80, "epoch 12/30  validation accuracy 95.31 %  loss 0.213  labels 0.11"),
        (65, "epoch 12/30  validation accuracy 95.31 %  loss 0.213  labels 0.11"),
        (64, "epoch 12/30  acc 95.3%  loss 0.213  labels 0.11"),
        (40, "epoch 12/30  acc 95.3%  loss 0.213"),
        (33, "epoch 12/30  acc 95.3%"),
        (11, "epoch 12/30"),
        (10, "epoch 1..."),
        (2, ".."),
    ],
)
def test_a_line_has_what_there_is_room_for(width, line):
    assert terminal.fitted(PARTS, width) == line


def test_wide_characters_take_two_columns():
    assert terminal.fitted(["写真", "x"], 7) == "写真  x"
    assert terminal.fitted(["写真", "x"], 6) == "写真"
    assert terminal.fitted(["写真の数"], 7) == "写真..."


@pytest.mark.parametrize(("seconds", "shown"), [(8.6, "0:09"), (754, "12:34"), (3723, "1:02:03")])
def test_time_as_a_clock_shows_it(seconds, shown):
    assert terminal.clock_time(seconds) == shown


@pytest.mark.parametrize("width", [80, 40])
def test_a_step_rewrites_one_line_of_less_than_the_width(screen, width):
    shown = screen(width)
    with terminal.step("Measuring the models on the test split", total=3, clock=False) as step:
        for _ in range(3):
            step.advance()
            step.show(now=True)
        terminal.say("A sentence that is longer than eighty columns is wrapped between its words.")
        with terminal.step("within", clock=False):
            pass
    assert max(map(len, shown.frames)) <= width
    lines = [line for line in shown.frames if line.startswith("Measuring")]
    assert all(len(line) < width for line in lines)
    what, *others = lines[-1].split("  ")
    assert what == "Measuring the models on the test split"
    assert others == (["3/3", "0:00 left"] if width == 80 else [])
    assert "within" in shown.frames
    assert " ".join(shown.frames).count("wrapped between its") == 1


def test_a_log_is_told_of_what_takes_long_without_an_escape_code(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    given, log = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", given)
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(terminal, "QUIET", 0.02)
    with terminal.step("Loading"), terminal.step("Reading", total=5) as step:
        step.advance(2)
        time.sleep(0.2)
    with terminal.step("Quick"):
        pass
    assert (given.getvalue(), log.getvalue()) == ("", "Reading  2/5  0:00\n")
    terminal.say("x" * 200, style="bold")
    assert given.getvalue() == "x" * 200 + "\n"
    assert ESCAPE not in given.getvalue() + log.getvalue()


def test_paths_and_brackets_stay_as_they_are(screen):
    shown = screen(40)
    path = "/a/very/long/folder-name/of-a-run/with-more/than/forty/columns"
    terminal.say(f"[bold]Run[/bold] :smile: {path}")
    assert [line.strip() for line in shown.frames] == ["[bold]Run[/bold] :smile:", path]


def test_a_step_ends_with_what_it_shows_when_it_fails(screen):
    shown = screen(80)
    with pytest.raises(ValueError), terminal.step("Failing"):
        raise ValueError
    assert sys.stdout is shown and terminal.console().file is shown


def test_a_closed_stdout_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with terminal.step("Loading", total=1) as step:
        step.advance()
    terminal.say("said to nobody")
