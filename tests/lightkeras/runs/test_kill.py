"""SIGKILL at any moment, again and again: the run that goes on ends as the one that nothing stopped, to the bit.

`LIGHTKERAS_KILLS=100 pytest tests/test_kill.py` kills each task so many times.
"""

import itertools
import os
import random
import time

import pytest
from helpers.killing import KILLED, Server
from helpers.resuming import assert_same, outcome

from lightkeras.runs import folder as run_folder

KILLS = {"text_generation": 8, "dcgan": 8, "translation": 2, "captioning": 2}  # the last two take long to compile
if "LIGHTKERAS_KILLS" in os.environ:
    KILLS = dict.fromkeys(KILLS, int(os.environ["LIGHTKERAS_KILLS"]))
POINTS = (  # of kill_server.py; those of a checkpoint lie in its writer's thread
    "update", "checkpoint's bytes", "row", "checkpoint's rename", "validation", "after the rename", "sample",
    "deletion of the oldest", "epoch end", "checkpoint's flush", "after",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("kill"))
    yield server
    server.stop()


def moments(task: str, seconds: float):
    """Where to kill, and at which time there; a task begins where the one before ends, so that all have their turn.

    A start that is not killed takes `seconds`.
    """
    generator, before = random.Random(task), list(KILLS).index(task)
    for number in itertools.count(sum(list(KILLS.values())[:before])):
        point = POINTS[number % len(POINTS)]
        most = 1 if point in ("sample", "epoch end") else 3  # once an epoch
        yield point, generator.uniform(0, seconds) if point == "after" else generator.randint(1, most)


@pytest.mark.parametrize("task", KILLS)
def test_killed_again_and_again(server, tmp_path, task):
    began = time.monotonic()
    assert server.run(tmp_path / "whole", task) == [0]
    kills, codes = moments(task, time.monotonic() - began), []
    whole = outcome(run_folder.newest_run(tmp_path / "whole", task))
    assert len(whole["samples"]) and whole["state"]["step"] == 30
    while codes.count(KILLED) < KILLS[task]:
        root = tmp_path / str(len(codes))
        while codes.count(KILLED) < KILLS[task]:
            codes += server.run(root, task, next(kills))
            if codes[-1] == 0:  # it came to its end before
                break
        server.run(root, task)
        assert_same(outcome(run_folder.newest_run(root, task)), whole)


def test_every_point_was_hit(server, request):
    ran = [item.name for item in request.session.items]
    if not all(f"test_killed_again_and_again[{task}]" in ran for task in KILLS):
        pytest.skip("not all tasks were killed in this session")
    assert sum(KILLS.values()) >= 20
    assert set(server.hits()) == set(POINTS) - {"after"}  # "after": at a random time


def test_a_plain_model_killed_at_a_random_update(server, tmp_path):
    assert server.run(tmp_path / "whole", "distiller") == [0]
    assert server.run(tmp_path / "cut", "distiller", kill=("update", random.Random("plain").randint(2, 19))) == [KILLED]
    assert server.run(tmp_path / "cut", "distiller") == [0]
    whole, cut = (outcome(run_folder.newest_run(tmp_path / name, "distiller")) for name in ("whole", "cut"))
    assert whole["state"]["step"] == 20
    assert_same(cut, whole)


def test_one_of_two_workers_killed(server, tmp_path):
    """The second in a validation, then the first, which writes, in a checkpoint."""
    assert server.run(tmp_path / "whole", workers=2) == [0, 0]
    for victim, kill in ((1, ("validation", 2)), (0, ("checkpoint's rename", 3))):
        assert server.run(tmp_path / "killed", kill=kill, workers=2, victim=victim) == [KILLED, KILLED]
    assert server.run(tmp_path / "killed", workers=2) == [0, 0]
    whole, killed = (outcome(run_folder.newest_run(tmp_path / name, "classifier")) for name in ("whole", "killed"))
    assert whole["state"]["step"] == 25
    assert_same(killed, whole)
