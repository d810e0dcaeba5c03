"""A search that is killed several times ends as an uninterrupted one: same trials, scores, weights, best trial."""

import json
from pathlib import Path

import pandas
import pytest
from helpers.killing import KILLED, Server
from helpers.resuming import assert_same, outcome

from lightkeras.runs import folder as run_folder

KILLS = {  # algorithm: (point of tuning_server.py, visit of the point)
    "hyperband": [
        ("update", 3),
        ("half a copy", 1),
        ("checkpoint's rename", 3),
        ("after the result", 2),
        ("oracle", 2),
    ],
    "bayesian": [("result", 2), ("file of the search", 3), ("after the result", 2)],
    "grid": [("oracle", 3), ("checkpoint's bytes", 2), ("after the result", 1)],
}  # fmt: skip


class SearchServer(Server):
    """Starts searches; see `tuning_server.py`."""

    script = "tuning_server.py"

    def search(self, algorithm: str, folder: Path, kill: tuple | None = None) -> int:
        """Starts a search; returns the exit code."""
        (code,) = self.ask({"algorithm": algorithm, "folder": str(folder), "kill": kill})
        return code


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = SearchServer(tmp_path_factory.mktemp("tuning"))
    yield server
    server.stop()


def read_search(folder: Path) -> dict:
    """Reads everything that a search leaves, without clocks and names of runs."""
    oracle = json.loads((folder / "oracle.json").read_text())
    oracle["oracle"].pop("run_times"), oracle["oracle"].pop("display")
    oracle["oracle"]["tried_so_far"].sort()  # KerasTuner has a set, whose order is that of its history
    trials = pandas.read_csv(folder / "trials.csv", dtype={"trial": str, "continues": str})
    best = (folder / "best_config.yaml").read_text().replace(str(folder), "")
    return {"oracle": oracle, "trials": trials.drop(columns=["seconds", "run"]).to_dict("list"), "best": best}


@pytest.mark.parametrize("algorithm", KILLS)
def test_a_search_killed_several_times(server, tmp_path, algorithm):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert server.search(algorithm, whole) == 0
    codes = [server.search(algorithm, killed, kill) for kill in KILLS[algorithm]]
    assert codes.count(KILLED) >= 3
    assert server.search(algorithm, killed) == 0
    ours, theirs = read_search(killed), read_search(whole)
    assert str(ours) == str(theirs)  # NaN is not equal to itself
    assert len(ours["trials"]["trial"]) >= 4
    for trial in ours["trials"]["trial"]:
        runs = [run_folder.newest_run(folder / "trials" / trial, "classifier") for folder in (killed, whole)]
        assert_same(*(outcome(run) for run in runs))
