"""Runs of each version of the format are read, reported and resumed by this one."""

import shutil

import numpy as np
import pytest
from helpers import golden

from lightkeras.checkpoint.manifest import FORMAT
from lightkeras.report.page import make_report
from lightkeras.version import __version__

VERSIONS = sorted(folder.name for folder in golden.FOLDER.iterdir())


@pytest.fixture(scope="module", params=VERSIONS)
def kept(request, tmp_path_factory):
    """A copy of a version's folder: the originals stay as they are."""
    return shutil.copytree(golden.FOLDER / request.param, tmp_path_factory.mktemp("golden") / request.param)


def assert_weights(model, file, tolerance: float) -> None:
    with np.load(file) as expected:
        found = golden.weights(model)
        assert sorted(found) == sorted(expected.files)
        for name in expected.files:
            np.testing.assert_allclose(found[name], expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("name", golden.NAMES)
def test_a_run_of_each_version_is_loaded_reported_and_resumed(kept, name, monkeypatch):
    monkeypatch.chdir(kept)  # the runs name their data by relative paths
    run = kept / name
    assert_weights(golden.load(name, run), f"{name}_saved.npz", 0)
    assert "From 2 rows of metrics.csv" in make_report(run)
    resumed, model = golden.train(name, "runs", str(run))
    assert resumed.resolve() == run
    assert_weights(model, f"{name}_end.npz", 1e-4)  # other processors round in another way


def test_this_version_has_its_runs():
    assert __version__ in VERSIONS and FORMAT == 1, "make them by `python -m helpers.golden`"
