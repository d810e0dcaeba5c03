"""A search that is killed again and again ends as the one that nothing stopped: same trials, scores, weights, best."""

import json
from pathlib import Path

import pandas
import pytest
from helpers.killing import KILLED, Server
from helpers.resuming import assert_same, outcome

from lightkeras.runs import folder as run_folder

KILLS = {  # algorithm: (point of tuning_server.py, which time there)
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
    """The process that starts searches; see `tuning_server.py`."""

    script = "tuning_server.py"

    def search(self, algorithm: str, folder: Path, kill: tuple | None = None) -> int:
        """The exit code of one start."""
        (code,) = self.ask({"algorithm": algorithm, "folder": str(folder), "kill": kill})
        return code


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = SearchServer(tmp_path_factory.mktemp("tuning"))
    yield server
    server.stop()


def left(folder: Path) -> dict:
    """What a search leaves, but for clocks and names of runs."""
    oracle = json.loads((folder / "oracle.json").read_text())
    oracle["oracle"].pop("run_times"), oracle["oracle"].pop("display")
    trials = pandas.read_csv(folder / "trials.csv", dtype={"trial": str, "continues": str})
    best = (folder / "best_config.yaml").read_text().replace(str(folder), "")
    return {"oracle": oracle, "trials": trials.drop(columns=["seconds", "run"]).to_dict("list"), "best": best}


@pytest.mark.parametrize("algorithm", KILLS)
def test_killed_again_and_again(server, tmp_path, algorithm):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert server.search(algorithm, whole) == 0
    codes = [server.search(algorithm, killed, kill) for kill in KILLS[algorithm]]
    assert codes.count(KILLED) >= 3
    assert server.search(algorithm, killed) == 0
    ours, theirs = left(killed), left(whole)
    assert str(ours) == str(theirs)  # NaN is not equal to itself
    assert len(ours["trials"]["trial"]) >= 4
    for trial in ours["trials"]["trial"]:
        runs = [run_folder.newest_run(folder / "trials" / trial, "classifier") for folder in (killed, whole)]
        assert_same(*(outcome(run) for run in runs))
