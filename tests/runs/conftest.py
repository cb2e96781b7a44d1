"""One small finished run, shared by the tests that look at runs."""

import os

import pytest
from small_runs import SMALL

from tfkd.evaluation import costs
from tfkd.runs import DistillSettings, distill


@pytest.fixture(scope="session", autouse=True)
def short_timing():
    """Latencies are no subject here."""
    kept = costs.SECONDS_PER_MODEL
    costs.SECONDS_PER_MODEL = 0.0
    yield
    costs.SECONDS_PER_MODEL = kept


@pytest.fixture(scope="session")
def small():
    return DistillSettings(**SMALL)


@pytest.fixture(scope="session")
def finished(small, tmp_path_factory):
    """(directory, record) of an undisturbed run."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    return out, distill(small, out)


@pytest.fixture
def kills():
    """How many kills a test of kills does: more with TFKD_KILLS."""
    return int(os.environ.get("TFKD_KILLS", "1"))
