"""One small finished run, shared by the tests that look at runs."""

import pytest

from tfkd.runs import DistillSettings, distill

SMALL = {
    "limit": 200,
    "epochs": 2,
    "teacher_epochs": 2,
    "seeds": 1,
    "seed": 3,
    "learning_rate": 0.01,
    "student_options": {"width": 0.05},
    "teacher_options": {"depth": 8, "width": 0.5},
}


@pytest.fixture(scope="session")
def small():
    return DistillSettings(**SMALL)


@pytest.fixture(scope="session")
def finished(small, tmp_path_factory):
    """(directory, record) of an undisturbed run."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    return out, distill(small, out)
