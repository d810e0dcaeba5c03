"""Several workers of one search, on one machine or on many: KerasTuner's chief, which has the oracle, and its clients.

Processes find each other by KerasTuner's own environment: KERASTUNER_TUNER_ID ("chief", or a name for each worker),
KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT. All must see the search's folder.
"""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
from keras_tuner.engine.trial import Trial

from lightkeras.distribution.launch import free_ports
from lightkeras.tuning.isolated import MODULE
from lightkeras.tuning.oracles import HEARTBEAT_TIMEOUT, PersistentOracle
from lightkeras.utils import internals
from lightkeras.utils.checks import lightkeras_error
from lightkeras.utils.processes import forward_signals, start_module

MAX_RESTARTS = 3  # of all workers of a machine together, after which a dead worker is not replaced
HEARTBEAT_INTERVAL = 5.0  # seconds
IDLE_TIMEOUT = 20.0  # seconds without a request of any worker after which a search without running trials is over


@contextlib.contextmanager
def serve(oracle: PersistentOracle, address: str) -> Iterator[None]:
    """Answers workers at `address` (host:port) during the `with` block.

    Raises:
        OSError: The address cannot be used.
    """
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    internals.add_oracle_service(server, oracle)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise lightkeras_error(OSError)(
            f"Expected a free address of this machine. Received: {address} ({error})"
        ) from error
    server.start()
    try:
        yield
    finally:
        server.stop(grace=1.0).wait()


def run_chief(oracle: PersistentOracle) -> None:
    """Answers workers that were started elsewhere, until the search is over."""
    address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
    with serve(oracle, address):
        while not oracle.is_over or oracle.seconds_since_heartbeat < IDLE_TIMEOUT:
            time.sleep(0.5)


def run_workers(
    oracle: PersistentOracle, folder: Path, count: int, seconds: float | None, environment: dict[str, str]
) -> int | None:
    """Starts workers on this machine, and is their chief until they end; a worker that dies is replaced.

    Returns:
        The signal that ended the search, or None.

    Raises:
        ChildProcessError: Every worker died.
    """
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with serve(oracle, address):
        processes = {index: start_worker(folder, index, count, address, seconds, environment) for index in range(count)}
        started, restarts = list(processes.values()), 0

        def wait() -> int:
            nonlocal restarts
            while processes:
                time.sleep(0.1)
                for index in [index for index, process in processes.items() if process.poll() is not None]:
                    code = processes.pop(index).returncode
                    if code == 0 or was_asked_to_end(code):
                        continue
                    oracle.worker_lost(f"worker{index}", f"its worker ended with exit code {code}")
                    if restarts < MAX_RESTARTS:
                        restarts += 1
                        processes[index] = start_worker(folder, index, count, address, oracle.seconds_left, environment)
                        started.append(processes[index])
            return 0

        _, received = forward_signals(started, wait)
    if not received and not oracle.is_over:
        raise lightkeras_error(ChildProcessError)(
            f"Expected workers to run until the search is over. Received: {count + restarts} have died; their logs "
            f"are in {folder}"
        )
    return received


def was_asked_to_end(code: int) -> bool:
    """Returns whether an exit code says that a worker received a signal, and has saved its trial."""
    return code in (128 + signal.SIGINT, 128 + signal.SIGTERM)


def start_worker(
    folder: Path, index: int, count: int, address: str, seconds: float | None, environment: dict[str, str]
) -> subprocess.Popen:
    """Starts worker `index` of `count`, with its part of the GPUs."""
    host, port = address.split(":")
    name = f"worker{index}"
    peers = {"KERASTUNER_TUNER_ID": name, "KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": port}
    environment = {**environment, **peers}
    if gpus := _visible_gpus():
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(assign_gpus(gpus, index, count))
    log = folder / f"{name}.log"
    return start_module(MODULE, "worker", str(folder), str(seconds), log=log, environment=environment)


def _visible_gpus() -> list[str]:
    """Lists the GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    found = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(number) for number in range(len(found))]


def assign_gpus(gpus: list[str], index: int, count: int) -> list[str]:
    """Returns the GPUs of worker `index`: an equal part, or a shared one if there are fewer GPUs than workers."""
    if len(gpus) < count:
        return [gpus[index % len(gpus)]]
    each = len(gpus) // count
    return gpus[index * each : (index + 1) * each]


class Client:
    """A worker's connection: asks the chief for trials, and sends heartbeats while one runs."""

    def __init__(self, oracle: PersistentOracle):
        self._client = internals.oracle_client(oracle)
        self._client.get_space()  # waits for the chief
        self.tuner_id = self._client.tuner_id
        self._running: str | None = None
        threading.Thread(target=self._send_heartbeats, daemon=True).start()

    def create_trial(self, tuner_id: str) -> Trial:
        """Returns the oracle's next trial."""
        trial = self._client.create_trial(tuner_id)
        self._running = trial.trial_id if trial.status == "RUNNING" else None
        return trial

    def end_trial(self, trial: Trial) -> None:
        """Tells the chief that the trial has ended."""
        self._running = None
        self._client.end_trial(trial)

    def _send_heartbeats(self) -> None:
        """Asks the chief for the running trial every few seconds; without a chief, the trial is saved and ends."""
        answered = time.monotonic()
        while time.monotonic() - answered <= HEARTBEAT_TIMEOUT:
            time.sleep(HEARTBEAT_INTERVAL)
            if (running := self._running) is None:
                answered = time.monotonic()
                continue
            with contextlib.suppress(grpc.RpcError):
                internals.ask_for_trial(self._client, running, timeout=HEARTBEAT_INTERVAL)
                answered = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
