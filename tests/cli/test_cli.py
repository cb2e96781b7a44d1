"""The command line: quick without TensorFlow, honest exit codes, flags that are the settings."""

import re
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tfkd import __version__, cli, files, recipes, runs
from tfkd.cli import training
from tfkd.cli.flags import flags_of
from tfkd.export.errors import ExportCheckError
from tfkd.settings import (
    CacheSettings,
    ChainSettings,
    CompareSettings,
    DistillSettings,
    ExportSettings,
    SearchSettings,
    WorkerSettings,
)


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
        (
            ["distill", "--learning-rate", "0"],
            2,
            "learning_rate is 0.0; it should be greater than 0",
        ),
        (["distill", "--student-option", "width"], 2, "NAME=VALUE"),
        (["distill", "--cluster", "node1:2222,node2:2222"], 2, "Give --index, from 0"),
        (["distill", "--student", "alexnt"], 2, 'Did you mean "alexnet"'),
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
        (["recipes", "run", "xu2022", "--help"], 0, "tfkd recipes run xu2022 --seeds 3"),
        (["recipes", "run", "xu2022", "--teacher-weight", "0.9"], 2, "add up to more than 1"),
        (["recipes", "run", "ye2024", "--teacher", "/no/t.keras"], 1, 'No teacher file "/no/t'),
        (["recipes", "run", "ye2024", "--resume", "--out", "/no/run"], 1, "No run to resume"),
        (["distill", "--recipe", "xu"], 2, 'Did you mean "xu2022"'),
        (["serve", "--help"], 0, "development stand-in for TF"),
        (["serve", "/no/run"], 1, "nothing to serve"),
        (["serve", "/no/run", "--port", "70000"], 2, "--port"),
        (["compare", "--help"], 0, "tfkd compare --student"),
        (["compare", "--student", "resnet", "--student", "resnet"], 2, "rows of one name"),
        (["compare", "--setting", "temperatur=2"], 2, 'Did you mean "temperature"'),
        (["report", "--help"], 0, "tfkd report saved_models/digits --open"),
        (["report", "/no/run"], 1, "holds no run"),
        (["predict", "--help"], 0, "tfkd predict saved_models"),
        (["predict", "/no/run", "image.png"], 1, "holds no run"),
        (["predict", "/no/student.tflite", "image.png"], 1, 'No file "/no/student.tflite"'),
        (["predict", "/no/run", "image.png", "--top", "0"], 2, "--top"),
        (["evaluate"], 2, "PATH"),
        (["data", "./photos", "--resize", "fit"], 2, "stretch_antialiased"),
        (["export", "/no/run", "--row", "alone"], 1, "holds no run"),
        (["cache", "build", "--help"], 0, "tfkd cache build stores"),
        (["cache", "build", "stores", "--teacher", "resnet"], 2, "a model to train"),
        (["cache", "build", "stores", "--teacher", "/no/t.keras"], 1, 'No teacher file "/no/t'),
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
    assert done.stdout == f"tfkd {__version__}\n"


@pytest.mark.parametrize(
    "kind",
    [
        *(DistillSettings, CompareSettings, ChainSettings, SearchSettings, ExportSettings),
        CacheSettings,
        WorkerSettings,
        *(recipes.get(name).settings for name in recipes.names()),
    ],
)
def test_every_setting_has_a_flag_with_its_help(kind):
    flags = flags_of(kind).__origin__.__args__[0].__annotations__
    assert set(flags) == set(kind.model_fields)
    for name, field in kind.model_fields.items():
        *_, parameter = flags[name].__metadata__
        assert parameter.help.startswith(" ".join(field.description.split()))


def called(monkeypatch, name, *arguments):
    """What a function of `tfkd.runs` is called with for these arguments."""
    calls = []
    monkeypatch.setattr(runs, name, lambda *values, **named: calls.append((values, named)))
    cli.main(list(arguments))
    return calls[0]


def test_what_is_given_reaches_the_settings(monkeypatch):
    (settings, out), named = called(
        monkeypatch,
        "distill",
        *("distill", "--epochs", "4", "--student-option", "width=0.25"),
        *("--student-option", "head=fc", "--student-option", "dropout=0"),
        *("--hints", "a:b", "--hints", "c:d", "--overwrite", "--any-teacher"),
    )
    assert settings == DistillSettings(
        epochs=4,
        student_options={"width": 0.25, "head": "fc", "dropout": 0},
        hints=("a:b", "c:d"),
        any_teacher=True,
    )
    assert out == "saved_models/digits-modified_alexnet"
    assert named == {"overwrite": True, "resume": False, "workers": WorkerSettings()}


def test_who_trains_is_told_apart_from_the_settings(monkeypatch):
    words = ["--cluster", "a:1,b:2", "--index", "1", "--checkpoint-minutes", "5", "--seeds", "2"]
    (settings, _), named = called(monkeypatch, "distill", "distill", *words)
    assert settings == DistillSettings(seeds=2)
    expected = WorkerSettings(cluster=("a:1", "b:2"), index=1, checkpoint_minutes=5.0)
    assert named["workers"] == expected


def test_nothing_given_is_the_defaults(monkeypatch):
    (settings, out), _ = called(monkeypatch, "distill", "distill", "--hints", "none", "--out", "x")
    assert (settings, out) == (DistillSettings(hints="none"), "x")


def test_flags_win_over_a_file_table_by_table(monkeypatch, tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("epochs = 9\nseeds = 1\n[student_options]\nwidth = 0.5\nhead = 'fc'\n")
    arguments = ["--config", str(path), "--epochs", "4", "--student-option", "width=0.25"]
    (settings, _), _ = called(monkeypatch, "distill", "distill", *arguments)
    options = {"width": 0.25, "head": "fc"}
    assert settings == DistillSettings(epochs=4, seeds=1, student_options=options)


def test_lists_of_a_comparison(monkeypatch):
    arguments = [
        "--student",
        "resnet depth=8",
        "--student",
        "modified_alexnet",
        "--fraction",
        "0.1",
    ]
    arguments += ["--fraction", "1", "--recipe", "xu2022 temperature=3", "--data", "digits"]
    (settings, out), _ = called(monkeypatch, "compare", "compare", *arguments)
    assert settings == CompareSettings(
        student=("resnet depth=8", "modified_alexnet"),
        fraction=(0.1, 1.0),
        recipe=("xu2022 temperature=3",),
    )
    assert out == "saved_models/compare"


def test_one_teacher_or_several(monkeypatch):
    flags = ["--teacher", "resnet", "--generations", "2"]
    (settings, out), _ = called(monkeypatch, "chain", "chain", *flags)
    assert settings == ChainSettings(teacher="resnet", generations=2)
    assert (settings.teacher, out) == ("resnet", "saved_models/digits-modified_alexnet-chain")
    flags = ["--teacher", "vit width=0.5", "--teacher-weights", "2,1", *flags[:2]]
    (settings, _), _ = called(monkeypatch, "distill", "distill", *flags)
    assert settings.teacher == ("vit width=0.5", "resnet")
    assert settings.weights_of_teachers() == [2.0, 1.0]


def test_switches_and_tables_of_a_recipe_reach_its_settings(monkeypatch):
    given = ["--symmetric", "--student-option", "width=0.5", "--forks", "stage1_out", "--ablate"]
    values, named = called(monkeypatch, "run_recipe", "recipes", "run", "ye2024", *given)
    settings = recipes.get("ye2024").settings(
        asymmetric=False, student_options={"width": 0.5}, forks=("stage1_out",)
    )
    assert values == ("ye2024", settings, "saved_models/ye2024-digits", True)
    assert named == {"overwrite": False, "resume": False}


def test_exports_and_predictions(monkeypatch):
    arguments = [
        "export",
        "RUN",
        "--format",
        "tflite",
        "--no-check",
        "--keep",
        "3",
        "--row",
        "alone",
    ]
    values, named = called(monkeypatch, "export_run", *arguments, "--data", "./moved")
    assert values == ("RUN", ExportSettings(format="tflite", keep=3), None)
    assert named == {"check": False, "row": "alone", "data": ["./moved"], "data_dir": None}
    values, named = called(monkeypatch, "predict", "predict", "RUN", "a.png", "b", "--top", "3")
    assert values == ("RUN", ["a.png", "b"], None, 3, None, False)


def test_what_moves_reaches_the_search(monkeypatch):
    calls = []
    monkeypatch.setattr(
        training, "run_search", lambda *values, **named: calls.append((values, named))
    )
    arguments = ["--search", "temperature=1:8:log", "--search", "hint_weight=0.1,1"]
    arguments += ["--search-student-option", "width=0.125,0.25", "--trials", "5", "--overwrite"]
    cli.main(["search", *arguments])
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
    (settings, _), _ = called(monkeypatch, "distill", "distill", "--resume", "--out", str(tmp_path))
    assert settings == DistillSettings(epochs=9)


def test_code_in_a_run_s_settings_needs_the_user_s_word(monkeypatch, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(DistillSettings(student="foreign:net").to_toml())
    again = ["distill", "--resume", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        cli.main(again)
    assert stopped.value.code == 2
    assert "names code to run: student = 'foreign:net'" in capsys.readouterr().err
    for word in (["--trust"], ["--student", "foreign:net"]):
        (settings, _), _ = called(monkeypatch, "distill", *again, *word)
        assert settings.student == "foreign:net"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ExportCheckError("The file says something else."), 1, "Error: The file says some"),
        (
            KeyboardInterrupt(),
            130,
            "Interrupted. What was trained is kept. To go on: tfkd dist",
        ),
        (files.DiskFullError("/x/run.json"), 1, 'The disk of "/x" is full.*--epochs 3 --resume'),
    ],
)
def test_what_stops_a_run_is_a_message_and_an_exit_code(monkeypatch, capsys, error, code, said):
    def fails(*values, **named):
        raise error

    monkeypatch.setattr(runs, "distill", fails)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["distill", "--overwrite", "--epochs", "3"])
    assert stopped.value.code == code
    shown = capsys.readouterr().err
    assert re.search(said, shown) and "--overwrite" not in shown


@pytest.mark.parametrize(("usable", "code"), [(True, None), (False, 1)])
def test_data_that_training_would_refuse_is_an_exit_code(usable, code, monkeypatch):
    asked = []

    def inspect_data(name, settings, sheet):
        asked.append((name, settings.resize, settings.skip_damaged, sheet))
        return SimpleNamespace(usable=usable)

    monkeypatch.setattr(runs, "inspect_data", inspect_data)
    try:
        cli.main(["data", "./photos", "--resize", "crop", "--skip-damaged", "--sheet", "a.png"])
    except SystemExit as error:
        assert error.code == code
    else:
        assert code is None
    assert asked == [("./photos", "crop", True, "a.png")]
