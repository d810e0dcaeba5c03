"""Workers that were told different things find out at once, and one that does not come is named."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading

import pytest

from lightkeras.distribution import launch, rendezvous
from lightkeras.distribution.cluster import slurm_config
from lightkeras.distribution.strategies import make_worker_strategy


def addresses(count: int) -> list[str]:
    return [f"127.0.0.1:{port}" for port in launch.free_ports(count)]


def meeting(*workers, patience: float = 60.0) -> list[str]:
    """What comes of workers (addresses, index, told), at the same time: "met", or the error."""
    outcomes = [""] * len(workers)

    def run(at, listed, index, told):
        try:
            rendezvous.meet(listed, index, {"cluster": listed, **told}, patience)
            outcomes[at] = "met"
        except Exception as error:
            outcomes[at] = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=run, args=(at, *worker)) for at, worker in enumerate(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_those_who_agree_meet():
    listed = addresses(3)
    assert meeting((listed, 0, {}), (listed, 1, {}), (listed, 2, {})) == ["met"] * 3
    assert meeting((listed, 2, {}), (listed, 1, {}), (listed, 0, {})) == ["met"] * 3  # the ports are free again
    assert meeting((listed[:1], 0, {})) == ["met"]


a, b, c = "abc"
DISAGREEING = {
    "other order, each the first": (([a, b], 0), ([b, a], 0)),
    "other length": (([a, b], 0), ([a, b, c], 1)),
    "other length, the first knows more": (([a, b, c], 0), ([a, b], 1)),
    "other port": (([a, b], 0), ([a, c], 1)),
    "other port of the first": (([a, b], 0), ([c, b], 1)),
}


@pytest.mark.parametrize("case", DISAGREEING)
def test_those_who_disagree_say_so_on_both_sides(case):
    """Within the patience: it is not what ends it."""
    at = dict(zip("abc", addresses(3), strict=True))
    lists = [([at[name] for name in names], index) for names, index in DISAGREEING[case]]
    outcomes = meeting(*((listed, index, {}) for listed, index in lists))
    for outcome, (mine, index), (theirs, other) in zip(outcomes, lists, lists[::-1], strict=True):
        start = "ArgumentError: Expected all workers to have the same cluster, each at its own address. Received: "
        said = f"{start}worker {index} (this process) has {{'cluster': {mine}}}, worker {other} at 127.0.0.1"
        assert outcome.startswith(said) and outcome.endswith(f"{{'cluster': {theirs}}}")


def test_another_version_is_named():
    listed = addresses(2)
    first, second = meeting((listed, 0, {"tensorflow": "2.21.0"}), (listed, 1, {"tensorflow": "2.20.0"}))
    assert "has {'tensorflow': '2.21.0'}, worker 1 at 127.0.0.1" in first and "2.20.0" in first
    assert "has {'tensorflow': '2.20.0'}" in second


def ask_until_answered(address, said):
    while True:
        try:
            return rendezvous._request(address, said)
        except OSError:
            continue


def test_two_in_one_place():
    """Two processes that both are worker 0: on one machine the port is taken, on two they meet at worker 1."""
    listed = addresses(2)
    outcomes = meeting((listed, 0, {}), (listed, 0, {}), patience=0.5)
    assert sum("OSError: Expected port" in outcome for outcome in outcomes) == 1
    first = {"index": 0, "config": {"cluster": listed}, "process": "the first"}
    with rendezvous._listen(listed[0], first):  # it answers, but another one asks
        found = threading.Thread(target=ask_until_answered, args=(listed[1], {**first, "process": "the second"}))
        found.start()
        (outcome,) = meeting((listed, 1, {}))
        found.join()
    assert outcome.startswith("ArgumentError: Expected one process to be worker 0. Received: a request from 127")


def test_a_list_that_names_the_wrong_machine():
    """The list is the same everywhere, and two of its machines are confused (Slurm's n9 and n10, sorted by name)."""
    here, there = addresses(2)
    told = {"cluster": "as sorted"}
    first, second = meeting(([here, there], 0, told), ([here, there][::-1], 0, told))
    for outcome in (first, second):
        assert re.search("two processes are worker 0: this one and one at 127.0.0.1", outcome)


def test_one_who_does_not_come_is_named():
    mine, missing = addresses(2)
    (outcome,) = meeting(([mine, missing], 0, {}), patience=0.3)
    assert outcome.startswith("TimeoutError: Expected every worker to come. Received: nothing from worker 1 at ")
    assert f"{missing} (ConnectionRefusedError" in outcome


def test_one_who_answers_and_never_asks_is_named():
    mine, other = addresses(2)
    said = {"index": 1, "config": {"cluster": [mine, other]}, "process": "one"}
    with rendezvous._listen(other, said):
        (outcome,) = meeting(([mine, other], 0, {}), patience=0.5)
    assert outcome.startswith("TimeoutError") and f"worker 1 at {other} (it answers, but does not ask)" in outcome


def test_strangers_change_nothing():
    """A port scanner, a health probe, another service."""
    listed = addresses(2)
    host, port = listed[0].split(":")
    met = []
    first = threading.Thread(target=lambda: met.extend(meeting((listed, 0, {}))))
    first.start()
    for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"index": 1, "config": 3}\n'):
        while True:
            try:
                with socket.create_connection((host, int(port)), 5) as stranger:
                    stranger.sendall(garbage)
                break
            except ConnectionRefusedError:
                continue
    assert meeting((listed, 1, {})) == ["met"]
    first.join()
    assert met == ["met"]


def test_a_service_that_is_no_worker_is_named():
    mine, other = addresses(2)
    host, port = other.split(":")
    with socket.create_server((host, int(port))) as service:

        def serve():
            with service.accept()[0] as connection:
                connection.sendall(b"SSH-2.0\n")
                connection.recv(1000)

        threading.Thread(target=serve, daemon=True).start()
        (outcome,) = meeting(([mine, other], 0, {}), patience=0.0)
    assert "TimeoutError" in outcome and "worker 1" in outcome


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "JSON"),
        ("[1]", "a dict of dicts"),
        ({"cluster": 3}, "a dict of dicts"),
        ({}, "a cluster and this process's task"),
        ({"cluster": {"worker": ["h:1"]}, "task": {"type": "worker", "index": 1}}, "task of it"),
        ({"cluster": {"worker": ["h:1"]}, "task": {"type": "worker", "index": "0"}}, "task of it"),
        ({"cluster": {"worker": ["h:1"], "ps": ["h:2"]}, "task": {"type": "ps", "index": 0}}, '"worker" or "chief"'),
        ({"cluster": {"worker": ["h:1", "h:1"]}, "task": {"type": "worker", "index": 0}}, "no address twice"),
        ({"cluster": {"chief": ["h:1"], "worker": ["h:1"]}, "task": {"type": "chief", "index": 0}}, "no address twice"),
        ({"cluster": {"worker": ["h:1", "h"]}, "task": {"type": "worker", "index": 0}}, '"host:port"'),
    ],
)
def test_what_is_wrong_in_itself_is_refused_at_once(config, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(ValueError, match=f"Expected `TF_CONFIG` to be .*{message}"):
        make_worker_strategy()


# ---- Slurm

STEP = {
    "SLURM_PROCID": "2", "SLURM_STEP_NODELIST": "gpu[9-10],cpu7", "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_JOB_ID": "4000123",
}  # fmt: skip


def test_slurms_environment_as_tf_config():
    assert slurm_config(STEP) == {
        "cluster": {"worker": ["gpu9:20123", "gpu9:20124", "gpu10:20123", "gpu10:20124", "cpu7:20123"]},
        "task": {"type": "worker", "index": 2},
    }


@pytest.mark.parametrize("name", STEP)
def test_a_process_that_srun_did_not_start_is_told(name):
    with pytest.raises(ValueError, match=f"that `srun` started. Received: .*no {name}"):
        slurm_config({key: value for key, value in STEP.items() if key != name})


# ---- real processes

JOIN = """
from lightkeras.distribution.replicas import any_worker, is_chief
from lightkeras.distribution.strategies import make_worker_strategy
strategy = make_worker_strategy()
print(strategy.num_replicas_in_sync, is_chief(strategy), any_worker(strategy, is_chief(strategy)))
"""


def joined(*environments) -> list[subprocess.CompletedProcess]:
    """What processes print that join the cluster at the same time."""
    clean = {name: value for name, value in os.environ.items() if name != "TF_CONFIG" and "SLURM" not in name}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", JOIN]
    processes = [subprocess.Popen(command, env={**clean, **given}, **pipes) for given in environments]
    ended = [(process, *process.communicate(timeout=300)) for process in processes]
    return [subprocess.CompletedProcess(command, process.returncode, out, error) for process, out, error in ended]


def free_job() -> int:
    """A job whose two ports are free."""
    for job in range(9_000, 10_000, 7):
        with contextlib.suppress(OSError), socket.create_server(("", 20_000 + job)):
            with socket.create_server(("", 20_001 + job)):
                return job
    raise OSError("no free ports")


def test_two_processes_of_a_slurm_step_are_one_cluster():
    step = {"SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_JOB_ID": str(free_job())}
    first, second = joined(*({**step, "SLURM_PROCID": str(rank)} for rank in range(2)))
    assert (first.stdout, second.stdout) == ("2 True True\n", "2 False True\n"), first.stderr + second.stderr


def test_two_processes_with_other_lists_end_with_an_error():
    """TensorFlow alone waits on and on: each of them thinks that it is the first."""
    listed = addresses(2)
    tasks = [{"cluster": {"worker": w}, "task": {"type": "worker", "index": 0}} for w in (listed, listed[::-1])]
    for process in joined(*({"TF_CONFIG": json.dumps(task)} for task in tasks)):
        assert process.returncode == 1 and "Expected all workers to have the same cluster" in process.stderr


def test_the_meeting_needs_no_tensorflow():
    code = "import sys; from lightkeras.distribution import rendezvous; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
