"""Several workers of one search: no trial is run twice, and none is lost with a worker that is killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas
import pytest
from helpers.tuning_toys import DiesOnce

import lightkeras as lk
from lightkeras.distribution.launch import free_ports
from lightkeras.tuning import workers

SPACE = {"task.units": {"choice": [2, 3, 4, 5]}}
IN_A_PROCESS = (
    f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}; "
    "from pathlib import Path; from test_workers import *; "
)
TRAINER = {"max_epochs": 2, "deterministic": True, "num_sanity_val_steps": 0, "logger": False, "run_eagerly": True}


def make_tuner(folder: Path) -> lk.Tuner:
    task = {"journal": str(folder.parent / f"{folder.name}.txt")}
    return lk.Tuner(DiesOnce, SPACE, folder=folder, algorithm="grid", task=task, trainer=TRAINER)


def scores(trials: pandas.DataFrame) -> dict:
    assert set(trials.status) == {"COMPLETED"}
    return dict(zip(trials["task.units"], trials.score, strict=True))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The scores of one worker that is not killed."""
    folder = tmp_path_factory.mktemp("alone") / "search"
    folder.with_name("search.killed").touch()
    return scores(make_tuner(folder).search())


def test_two_workers_and_one_is_killed(tmp_path, alone):
    tuner = make_tuner(tmp_path / "search")
    assert scores(tuner.search(workers=2)) == alone
    assert (tmp_path / "search.killed").exists()
    begun = [line.split() for line in (tmp_path / "search.txt").read_text().splitlines()]
    begun = begun[1:]  # the check of the objective
    counts = Counter((units, epoch) for _, units, epoch in begun)
    assert counts.pop(("5", "1")) == 2  # as it began, the worker was killed
    assert counts.pop(("5", "0")) in (1, 2)  # again, if the checkpoint behind it was still being written
    assert set(counts.values()) == {1} and len(counts) == 6
    assert len({process for process, *_ in begun}) >= 2  # and a third, if the killed one's successor comes in time


def test_workers_elsewhere(tmp_path, alone):
    """The chief and two workers, started separately, as on several machines."""
    (tmp_path / "search.killed").touch()
    script = IN_A_PROCESS + "workers.IDLE_TIMEOUT = 6.0; "
    script += f"make_tuner(Path({str(tmp_path / 'search')!r})).search()"
    address = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(free_ports(1)[0])}
    processes = []
    for name in ("chief", "tuner0", "tuner1"):
        environment = {**os.environ, **address, "KERASTUNER_TUNER_ID": name}
        with (tmp_path / f"{name}.log").open("w") as log:
            processes.append(subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=log, stderr=log))
    assert [process.wait(400) for process in processes] == [0, 0, 0], (tmp_path / "chief.log").read_text()
    assert scores(lk.Tuner.load(tmp_path / "search").trials()) == alone


def test_a_killed_chief_takes_its_workers_with_it(tmp_path):
    (tmp_path / "search.killed").touch()
    script = IN_A_PROCESS
    script += f"make_tuner(Path({str(tmp_path / 'search')!r})).search(workers=2)"
    chief = subprocess.Popen([sys.executable, "-c", script])
    journal = tmp_path / "search.txt"
    while chief.poll() is None and (not journal.exists() or len(journal.read_text().splitlines()) < 2):
        time.sleep(0.1)
    children = [int(line.split()[0]) for line in journal.read_text().splitlines()[1:]]
    chief.send_signal(signal.SIGKILL)
    chief.wait()
    deadline = time.monotonic() + 60
    while any(is_alive(process) for process in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children and not any(is_alive(process) for process in children)


def is_alive(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def test_the_trial_of_a_silent_worker_is_given_to_another(tmp_path, monkeypatch):
    tuner = make_tuner(tmp_path / "search")
    tuner.folder.mkdir()
    tuner.begin(changed=lambda: None)
    first = tuner.oracle.create_trial("one")
    assert tuner.oracle.create_trial("two").trial_id != first.trial_id
    clock = time.monotonic() + workers.HEARTBEAT_TIMEOUT + 1
    tuner.oracle.get_trial("0001")  # a heartbeat of "two"
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    tuner.oracle._heartbeats["0001"] = clock
    assert tuner.oracle.create_trial("three").trial_id == first.trial_id
    tuner.oracle.worker_lost("three", "its worker ended with exit code -9")
    assert tuner.oracle.trials[first.trial_id].message == "its worker ended with exit code -9, twice"


@pytest.mark.parametrize(
    ("gpus", "count", "expected"),
    [("0123", 2, ["01", "23"]), ("01", 3, ["0", "1", "0"]), ("012", 2, ["0", "1"])],
)
def test_gpus_are_assigned(gpus, count, expected):
    assert ["".join(workers.assign_gpus(list(gpus), index, count)) for index in range(count)] == expected
