"""What is installed: the wheel's files, the extras, the versions, an import from anywhere."""

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tfkd import _extras, _versions

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def configuration():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements(text):
    """{package: (first version, first version that is not taken or None)} of lines of setup.cfg."""
    found = {}
    for line in text.splitlines():
        named = re.fullmatch(r"([\w.-]+) >= ([\d.]+)(?:, < ([\d.]+))?", line.strip())
        if named:
            found[named[1]] = (named[2], named[3])
    return found


def python(code, cwd, *options):
    return subprocess.run(
        [sys.executable, *options, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60
    )


def test_the_wheel_holds_every_file_of_the_package_and_the_licence(tmp_path):
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tfkd", tmp_path / "tfkd", ignore=ignored)
    code = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        metadata = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
        said = wheel.read(metadata).decode()
        assert metadata.replace("METADATA", "licenses/LICENSE") in wheel.namelist()
    files = {p.relative_to(tmp_path).as_posix() for p in (tmp_path / "tfkd").rglob("*.*")}
    assert names == files
    assert "tfkd/py.typed" in names
    assert "License-Expression: Apache-2.0\n" in said


def test_every_extra_that_commands_name_is_declared(configuration):
    declared = configuration["options.extras_require"]
    of_all = sorted(set(_extras.EXTRAS) - {"dask", "hub", "ray"})  # KerasHub and Ray are heavy
    assert declared["all"].strip() == f"tfkd[{','.join(of_all)}]"
    brought_by = {
        "ai_edge_litert": "ai-edge-litert",
        "grpc": "grpcio",
        "keras_hub": "keras-hub",
        "keras_tuner": "keras-tuner",
        "rouge_score": "rouge-score",
        "tensorflow_datasets": "tensorflow-datasets",
        "tensorflow_serving": "tensorflow-serving-api",
    }
    for extra, modules in _extras.EXTRAS.items():
        packages = {brought_by.get(module, module) for module in modules}
        assert set(requirements(declared[extra])) == packages, extra


@pytest.mark.parametrize(
    ("arguments", "extra", "what"),
    [
        (["search", "--data", "digits"], "tune", "tfkd search"),
        (["export", "run"], "export", "tfkd export"),
        (["distill", "--export", "int8"], "export", "tfkd distill"),
        (["serve", "run"], "serve", "tfkd serve"),
        (["cache", "info", "s3://bucket/stores"], "remote", '"s3://bucket/stores"'),
        (["distill", "--scheduler", "tcp://node:8786"], "dask", "--scheduler"),
        (["chain", "--generations", "2", "--scheduler", "ray://node:10001"], "ray", "--scheduler"),
        (["distill", "--teacher", "hub:resnet_50_imagenet"], "hub", '"hub:resnet_50_imagenet"'),
    ],
)
def test_a_command_says_which_extra_it_lacks(monkeypatch, capsys, tmp_path, arguments, extra, what):
    from tfkd import cli

    monkeypatch.chdir(tmp_path)
    for module in _extras.EXTRAS[extra]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert what in said and f'pip install "tfkd[{extra}]"' in said
    assert list(tmp_path.iterdir()) == []


def test_without_tfds_folders_are_read_and_names_are_explained(monkeypatch, tmp_path):
    from PIL import Image

    import tfkd

    for split in ("train", "validation", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / "mnist" / split / label
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(folder / "1.png")
    monkeypatch.chdir(tmp_path)
    for module in _extras.EXTRAS["data"]:
        monkeypatch.setitem(sys.modules, module, None)
    assert tfkd.data.load("mnist").info.label_names == ("cat", "dog")
    with pytest.raises(ModuleNotFoundError, match=r'"cifar10".*pip install "tfkd\[data\]"'):
        tfkd.data.load("cifar10")


def test_a_name_whose_module_lacks_an_extra_says_so(tmp_path):
    code = "import sys; sys.modules['keras_tuner'] = None; import tfkd; tfkd.tuning.RandomSearch"
    done = python(f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}", tmp_path)
    assert "tfkd.tuning.RandomSearch needs the extra 'tune'" in done.stderr
    assert 'pip install "tfkd[tune]"' in done.stderr


def test_the_versions_refused_are_those_of_setup_cfg(configuration):
    declared = requirements(configuration["options"]["install_requires"])
    assert {name: declared[name] for name in _versions.RANGES} == _versions.RANGES


@pytest.mark.parametrize(
    ("package", "version", "said"),
    [
        ("keras", "3.13.2", "tfkd needs keras >= 3.14, < 3.16, but here is keras 3.13.2"),
        ("keras", "2.15.0", 'pip install "keras>=3.14,<3.16"'),
        ("tensorflow", "2.20.0", "tfkd needs tensorflow >= 2.21, but here is tensorflow 2.20.0"),
    ],
)
def test_an_old_version_is_refused_with_the_range_that_works(monkeypatch, package, version, said):
    monkeypatch.setattr(_versions, "_version", {package: version}.get)
    with pytest.raises(ImportError, match=re.escape(said)):
        _versions.check()


def test_a_newer_keras_is_a_warning_and_a_nightly_of_a_good_one_is_none(monkeypatch, recwarn):
    monkeypatch.setattr(_versions, "_version", {"keras": "3.16.0"}.get)
    with pytest.warns(UserWarning, match="here is keras 3.16.0"):
        _versions.check()
    known = {"keras": "3.15.0.dev2026", "tensorflow": "2.22.0-rc1"}
    monkeypatch.setattr(_versions, "_version", known.get)
    _versions.check()
    assert len(recwarn) == 0


def test_tfkd_is_imported_from_the_folder_above_a_clone(tmp_path):
    (tmp_path / "tfkd").mkdir()
    shutil.copy(ROOT / "__init__.py", tmp_path / "tfkd")
    (tmp_path / "tfkd" / "tfkd").symlink_to(ROOT / "tfkd")
    code = "import tfkd.settings as s; print(s.DistillSettings(epochs=4).epochs, s.__file__)"
    done = python(f"import sys; sys.path.insert(0, '.'); {code}", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[0] == "4"
    assert Path(done.stdout.split()[1]) == tmp_path / "tfkd" / "tfkd" / "settings" / "__init__.py"
