"""The command line: quick without TensorFlow, honest exit codes, flags that are the settings."""

import dataclasses
import resource
import subprocess
import sys

import pytest
import typer

from tfkd import cli, recipes
from tfkd.runs import DistillSettings, SearchSettings


def tfkd(*arguments):
    """(exit code, stdout, stderr, CPU seconds) of a `tfkd` process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # An entry in sys.modules that is None makes its import fail: nothing here may need TensorFlow.
    code = "import sys; sys.modules['tensorflow'] = None; import tfkd.cli; tfkd.cli.main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, done.stdout, done.stderr, seconds


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "distill"),
        (["--version"], 0, "tfkd 0."),
        (["distill", "--help"], 0, "tfkd distill --data digits"),
        (["evaluate", "--help"], 0, "tfkd evaluate saved_models"),
        (["distil"], 2, "distill"),
        (["distill", "--epoch", "3"], 2, "--epochs"),
        (["distill", "--epochs", "many"], 2, "--epochs"),
        (["distill", "--learning-rate", "0"], 2, "learning_rate is 0.0; expected a number above 0"),
        (["distill", "--student-option", "width"], 2, "NAME=VALUE"),
        (["distill", "--student", "alexnt"], 2, "Did you mean 'alexnet'"),
        (["distill", "--config", "/no/settings.toml"], 1, 'No settings file "/no/settings.toml"'),
        (["distill", "--teacher", "/no/teacher.keras"], 1, 'No teacher file "/no/teacher.keras"'),
        (["distill", "--resume", "--out", "/no/run"], 1, "No run to resume"),
        (["evaluate", "/no/run"], 1, "holds no run"),
        (["evaluate", "/no/student.tflite"], 1, 'No file "/no/student.tflite"'),
        (["search", "--help"], 0, "tfkd search --data digits --trials 12"),
        (["search", "--objective", "val_loss"], 2, "changes its meaning with the weights"),
        (["search", "--search", "temperature=8:1"], 2, "low must be less than high"),
        (["search", "--search", "temprature=1:8"], 2, 'Did you mean "temperature"'),
        (["search", "--pareto", "parameters"], 2, "every trial's student has the same"),
        (["search", "--teacher", "/no/teacher.keras"], 1, 'No teacher file "/no/teacher.keras"'),
        (["search", "--out", "/etc/hostname"], 1, "is a file; expected a directory"),
        (["export", "--help"], 0, "tfkd export saved_models"),
        (["export", "/no/run"], 1, "holds no run"),
        (["export", "/no/run", "--format", "savedmodel"], 2, 'Did you mean "saved_model"'),
        (["export", "/no/run", "--quantization", "int4"], 2, 'Did you mean "int8"'),
        (["distill", "--export", "int7"], 2, 'Did you mean "int8"'),
        (["recipes"], 0, "umirzakova2024"),
        (["recipes", "run", "xu2022", "--help"], 0, "tfkd recipes run xu2022 --data digits"),
        (["recipes", "run", "xu2022", "--teacher-weight", "0.9"], 2, "add up to more than 1"),
        (["recipes", "run", "ye2024", "--teacher", "/no/t.keras"], 1, 'No teacher file "/no/t'),
        (["recipes", "run", "ye2024", "--resume", "--out", "/no/run"], 1, "No run to resume"),
        (["distill", "--recipe", "xu"], 2, 'Did you mean "xu2022"'),
        (["serve", "--help"], 0, "development stand-in for TF"),
        (["serve", "/no/run"], 1, "nothing to serve"),
        (["serve", "/no/run", "--port", "70000"], 2, "--port"),
    ],
)
def test_help_and_mistakes_answer_at_once(arguments, code, said):
    returned, out, errors, seconds = tfkd(*arguments)
    assert returned == code, errors
    assert said in (out if code == 0 else errors)
    assert "Traceback" not in errors
    assert seconds < 1.0


def test_python_dash_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "tfkd", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"tfkd {cli.tfkd.__version__}\n"


@pytest.mark.parametrize(
    ("name", "settings_class", "own"),
    [
        ("distill", DistillSettings, {"config", "out", "overwrite", "resume"}),
        ("search", SearchSettings, {"config", "out", "overwrite"}),
    ],
)
def test_flags_and_settings_agree(name, settings_class, own):
    command = typer.main.get_command(cli.app).commands[name]
    flags = {parameter.name: parameter for parameter in command.params}
    fields = {field.name: field for field in dataclasses.fields(settings_class)}
    assert set(flags) - own - {"help"} == set(fields)
    for name, field in fields.items():
        assert flags[name].help == field.metadata["help"]


@pytest.mark.parametrize("name", recipes.names())
def test_flags_and_settings_of_recipes_agree(name):
    command = typer.main.get_command(cli.app).commands["recipes"].commands["run"].commands[name]
    flags = {parameter.name: parameter for parameter in command.params}
    fields = {field.name: field for field in dataclasses.fields(recipes.get(name).settings)}
    own = {"config", "out", "ablate", "overwrite", "resume"}
    assert set(flags) - own - {"help"} == set(fields)


def test_switches_and_tables_of_a_recipe_reach_its_settings(monkeypatch):
    calls = []
    monkeypatch.setattr(cli.recipes, "run", lambda *values, **named: calls.append((values, named)))
    given = ["--symmetric", "--student-option", "width=0.5", "--forks", "stage1_out", "--ablate"]
    cli.app(["recipes", "run", "ye2024", *given], standalone_mode=False)
    settings = recipes.get("ye2024").settings(
        asymmetric=False, student_options={"width": 0.5}, forks=("stage1_out",)
    )
    expected = ("ye2024", settings, "saved_models/ye2024-digits", True)
    assert calls == [(expected, {"overwrite": False, "resume": False})]


def test_a_failed_check_is_a_message_and_an_exit_code(monkeypatch, capsys):
    def fails(*values, **named):
        raise cli.ExportCheckError("The file says something else.")

    monkeypatch.setattr(cli, "export_run", fails)
    with pytest.raises(SystemExit) as stopped:
        cli.app(["export", "RUN"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "Error: The file says something else.\n"


def called(monkeypatch, *arguments):
    """What `distill` is called with for these arguments."""
    calls = []
    monkeypatch.setattr(cli, "distill", lambda *values, **named: calls.append((values, named)))
    assert cli.app(["distill", *arguments], standalone_mode=False) in (None, 0)
    return calls[0]


def test_what_is_given_reaches_the_settings(monkeypatch):
    (settings, out), named = called(
        monkeypatch,
        *("--epochs", "4", "--student-option", "width=0.25", "--student-option", "head=fc"),
        *("--hints", "a:b", "--hints", "c:d", "--overwrite"),
    )
    assert settings == DistillSettings(
        epochs=4, student_options={"width": 0.25, "head": "fc"}, hints=("a:b", "c:d")
    )
    assert out == "saved_models/digits-modified_alexnet"
    assert named == {"overwrite": True, "resume": False}


def test_nothing_given_is_the_defaults(monkeypatch):
    (settings, _), _ = called(monkeypatch, "--hints", "none", "--out", "x")
    assert settings == DistillSettings(hints="none")


def test_what_moves_reaches_the_search(monkeypatch):
    calls = []
    monkeypatch.setattr(cli, "search", lambda *values, **named: calls.append((values, named)))
    arguments = ["--search", "temperature=1:8:log", "--search", "hint_weight=0.1,1"]
    arguments += ["--search-student-option", "width=0.125,0.25", "--trials", "5", "--overwrite"]
    cli.app(["search", *arguments], standalone_mode=False)
    ((settings, out), named) = calls[0]
    assert settings == SearchSettings(
        search={"temperature": "1:8:log", "hint_weight": "0.1,1"},
        search_student_options={"width": "0.125,0.25"},
        trials=5,
    )
    assert out == "saved_models/digits-modified_alexnet-search"
    assert named == {"overwrite": True}


def test_resuming_takes_the_settings_of_the_run(monkeypatch, tmp_path):
    (tmp_path / "run.toml").write_text(DistillSettings(epochs=9).to_toml())
    (settings, _), _ = called(monkeypatch, "--resume", "--out", str(tmp_path))
    assert settings == DistillSettings(epochs=9)


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*values, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "distill", interrupted)
    with pytest.raises(SystemExit) as stopped:
        cli.app(["distill"])
    assert stopped.value.code == 130
    assert "--resume" in capsys.readouterr().err
