"""Code on the pages of docs/, in the README and in examples/ runs as it stands there."""

import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

import tfkd
from tfkd import cli, runs
from tfkd.cli import training

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def module(path):
    """A file of Python code as a module, whatever folder it is in."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded


doc_pages = module(ROOT / "tests" / "doc_pages.py")
check_links = module(ROOT / "scripts" / "check_links.py")

PAGES = [
    *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts),
    ROOT / "README.md",
]
# Their tests, below and in tests/losses/, look at what comes of them.
OWN_TEST = ("adding.md", "calibration.md", "methods.md", "serve.md")
WITH_CODE = [
    page
    for page in PAGES
    if page.name not in OWN_TEST and doc_pages.blocks(page.read_text("utf-8"), ("python",))
]
COMMANDS = [
    (f"{page.relative_to(ROOT)}:{line + offset}", command)
    for page in [*PAGES, ROOT / "tfkd" / "recipes" / "README.md", ROOT / "benchmarks" / "README.md"]
    for line, block in doc_pages.blocks(page.read_text("utf-8"), ("sh", ""))
    for offset, command in enumerate(block.replace("\\\n", " ").splitlines(), 1)
    if command.startswith("tfkd ")
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page, here):
    if page.name == "photos.md":
        doc_pages.photos(here)
    doc_pages.run(page, doc_pages.names(here))


@pytest.mark.parametrize(("where", "command"), COMMANDS, ids=[where for where, _ in COMMANDS])
def test_a_command_of_a_page_is_understood(where, command, monkeypatch):
    """Up to where it would start: flags, values and what settings say of them."""
    begun = []
    commands = (
        "distill",
        "compare",
        "chain",
        "run_recipe",
        "evaluate_run",
        "predict",
        "export_run",
        "layers",
        "build_cache",
        "cache_info",
        "merge_caches",
    )
    for name in commands:
        monkeypatch.setattr(runs, name, lambda *given, **named: begun.append(given))
    monkeypatch.setattr(runs, "verify_cache", lambda *given: begun.append(given) or {})
    usable = SimpleNamespace(usable=True)
    monkeypatch.setattr(runs, "inspect_data", lambda *given: begun.append(given) or usable)
    monkeypatch.setattr(runs, "serve_runs", lambda *given, **named: begun.append(given))
    monkeypatch.setattr(training, "run_search", lambda *given, **named: begun.append(given))
    report = Path("report.html")
    monkeypatch.setattr(runs, "report_run", lambda *given, **named: begun.append(given) or report)
    monkeypatch.setattr("webbrowser.open", lambda address: None)
    words = shlex.split(command, comments=True)[1:]
    if "--config" in words:  # a file of a run that is not here
        place = words.index("--config")
        del words[place : place + 2]
    cli.main(words)
    assert begun or words in (["losses"], ["recipes"]) or words[-1] in ("--help", "--version")


def test_the_page_on_serving_is_answered(here):
    """Its clients against the server that it speaks of, on free ports."""
    from tfkd.serving.server import Server

    image = keras.Input((8, 8, 1))
    digit = keras.Model(image, layers.Dense(10)(layers.Flatten()(layers.Rescaling(1 / 16)(image))))
    base = here / "saved_models" / "quickstart" / "export" / "saved_model"
    examples = np.random.default_rng(0).integers(0, 17, (8, 8, 8, 1)).astype("uint8")
    tfkd.export.export_saved_model(digit, base, examples=examples)
    keras.utils.save_img(here / "digit.png", np.zeros((8, 8, 1), "uint8"), scale=False)
    with Server({"quickstart": base}, rest_port=0, grpc_port=0) as server:
        ports = {"8501": str(server.rest_port), "8500": str(server.grpc_port)}

        def change(code):
            return re.sub(r"(?<=127\.0\.0\.1:)850\d", lambda port: ports[port[0]], code)

        names = doc_pages.run(DOCS / "how_to" / "serve.md", {}, change)
    assert names["rows"][0]["label"] == names["columns"]["label"][0]
    assert (here / "serving" / "compose.yaml").exists()


def test_what_the_page_on_adding_shows_trains(tmp_path):
    names = doc_pages.run(DOCS / "adding.md", {})

    def net(width):
        image = keras.Input((6,))
        features = layers.Dense(width, name="features")(image)
        return keras.Model(image, layers.Dense(3)(features))

    source = names["TwoTeachers"]([net(5), net(6)])
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    y = np.arange(8) % 3
    two = tfkd.Distiller(source, net(4), tfkd.losses.LogitsDistillation(2.0))
    projected = tfkd.Distiller(net(5), net(4), names["loss"])
    for made in (two, projected):
        made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        before = made.distillation_losses[0].name
        history = made.fit(x, y, epochs=3, verbose=0).history
        assert history[before][2] < history[before][0]
        made.save(tmp_path / "made.keras")
        again = keras.models.load_model(tmp_path / "made.keras")
        np.testing.assert_allclose(
            again.predict(x, verbose=0), made.predict(x, verbose=0), rtol=1e-6
        )
    assert projected.adapters.count_params() == (5 * 16 + 16) + (4 * 16 + 16)
    mean = sum(t.predict(x, verbose=0) for t in source.teachers) / 2
    np.testing.assert_allclose(source(x)["output"], mean, rtol=1e-5)


def test_what_the_page_on_calibration_shows():
    image = keras.Input((3,))
    student = keras.Model(image, layers.Dense(2, use_bias=False)(image))
    # Three of four are right at logits of 3: the temperature is 3 / ln 3.
    logits, labels = np.tile([3.0, 0.0], (4, 1)), np.array([0, 0, 0, 1])
    names = {"student": student, "validation_logits": logits, "validation_labels": labels}
    names |= {"test_logits": logits, "test_labels": labels}
    doc_pages.run(DOCS / "calibration.md", names)
    assert abs(names["after"]["calibration_error"]) < 1e-7 < names["before"]["calibration_error"]
    x = np.eye(3, dtype="float32")
    expected = student.get_weights()[0] / (3 / np.log(3))
    np.testing.assert_allclose(names["calibrated"](x), expected, rtol=1e-5)


def test_every_package_with_public_names_has_a_page_of_the_api():
    shown = "".join(page.read_text("utf-8") for page in (DOCS / "api").glob("*.md"))
    for name in tfkd.__all__:
        assert f"tfkd.{name}\n" in shown, name


def test_no_link_within_the_project_is_dead():
    dead = {str(p.relative_to(ROOT)): check_links.dead_links(p) for p in check_links.pages()}
    assert {page: links for page, links in dead.items() if links} == {}


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "there.md").write_text("# A heading, of `code`\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md#a-heading-of-code) [b](there.md#none) [c](gone.md) [d](https://x.y) `[e](f)`"
    )
    assert check_links.dead_links(page) == ["there.md#none", "gone.md"]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def toy(code):
    """The settings that a notebook begins with, small."""
    return re.sub(r"^(EPOCHS|TEACHER_EPOCHS|TRIALS|LIMIT) = \S+", _small, code, flags=re.M)


def _small(setting):
    return f"{setting[1]} = { {'TRIALS': 2, 'LIMIT': 100}.get(setting[1], 1) }"


@pytest.mark.parametrize(
    "notebook", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda path: path.name
)
def test_a_notebook_runs_at_toy_size(notebook, here):
    content = json.loads(notebook.read_text("utf-8"))
    names = {}
    for number, cell in enumerate(content["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            code = toy("".join(cell["source"]))
            exec(compile(code, f"{notebook.name}, cell {number}", "exec"), names)  # noqa: S102
    made = {"distil": "student.keras", "search": "student.keras", "export": "student_int8.tflite"}
    assert (here / made[notebook.stem]).exists()
    assert names.get("LIMIT") == 100 and names["EPOCHS"] == 1


def test_the_script_is_short_and_leaves_a_student(here):
    script = ROOT / "examples" / "distill.py"
    assert len(script.read_text("utf-8").splitlines()) <= 60
    accuracies = module(script).main(epochs=1)
    assert set(accuracies) == {"teacher", "alone", "distilled"}
    (images, labels), *_ = tfkd.data.load("digits").test.batch(512).as_numpy_iterator()
    student = keras.models.load_model(here / "student.keras")
    right = np.mean(student.predict(images, verbose=0).argmax(-1) == labels)
    assert right == pytest.approx(accuracies["distilled"])
