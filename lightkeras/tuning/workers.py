"""Several workers of one search, on this machine or on many: KerasTuner's chief, which has the oracle, and its clients.

Processes find each other by KerasTuner's own environment: KERASTUNER_TUNER_ID ("chief", or a name for each worker),
KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT. All see the search's folder.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer
from keras_tuner.src.distribute.oracle_client import OracleClient
from keras_tuner.src.distribute.utils import has_chief_oracle, is_chief_oracle

from lightkeras.distribution.launch import free_ports
from lightkeras.tuning.isolated import passing_signals
from lightkeras.tuning.oracles import SILENCE, KeptOracle

RESTARTS = 3  # of all workers of a machine together, after which a worker that dies is not replaced
SIGN_OF_LIFE = 5.0  # seconds between two of them
GRACE = 20.0  # seconds without a word from any worker after which a search without open trials is over


def role() -> str | None:
    """ "chief" or "worker" by KerasTuner's environment; None outside of one."""
    return ("chief" if is_chief_oracle() else "worker") if has_chief_oracle() else None


@contextlib.contextmanager
def serving(oracle: KeptOracle, address: str):
    """Answers workers at `address` (host:port).

    Raises:
        OSError: The address cannot be used.
    """
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(oracle), server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"Expected a free address of this machine. Received: {address} ({error})") from error
    server.start()
    try:
        yield
    finally:
        server.stop(grace=1.0).wait()


def serve(oracle: KeptOracle) -> None:
    """The chief of workers that are started elsewhere: answers them until the search is over."""
    address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
    with serving(oracle, address):
        while not oracle.is_over or oracle.silent_for < GRACE:
            time.sleep(0.5)


def lead(oracle: KeptOracle, folder: Path, workers: int, seconds: float | None) -> int | None:
    """Starts workers on this machine, and is their chief until they end; a worker that dies is replaced.

    Returns:
        The signal that ended the search, or None.

    Raises:
        ChildProcessError: Every worker died.
    """
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with serving(oracle, address):
        running = {f"worker{at}": _start(folder, at, workers, address, seconds) for at in range(workers)}
        processes, restarts = list(running.values()), [0]

        def wait() -> int:
            while running:
                time.sleep(0.1)
                for name, process in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[name]
                    if process.returncode and not asked_to_end(process.returncode):
                        oracle.lost(name, f"its worker ended with exit code {process.returncode}")
                        if restarts[0] < RESTARTS:
                            restarts[0] += 1
                            at = int(name.removeprefix("worker"))
                            running[name] = _start(folder, at, workers, address, oracle.seconds_left)
                            processes.append(running[name])
            return 0

        _, received = passing_signals(processes, wait)
    if not received and not oracle.is_over:
        died = workers + RESTARTS
        raise ChildProcessError(f"Expected workers that live. Received: {died} have died; their logs are in {folder}")
    return received


def asked_to_end(code: int) -> bool:
    """Whether an exit code is that of a worker which was told to end, and has saved its trial."""
    return code in (128 + signal.SIGINT, 128 + signal.SIGTERM)


def _start(folder: Path, at: int, workers: int, address: str, seconds: float | None) -> subprocess.Popen:
    host, port = address.split(":")
    own = {"KERASTUNER_TUNER_ID": f"worker{at}", "KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": port}
    own["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    if gpus := _gpus():
        own["CUDA_VISIBLE_DEVICES"] = ",".join(share(gpus, at, workers))
    command = [sys.executable, "-m", "lightkeras.tuning.worker", str(folder), str(seconds), str(os.getpid())]
    with (folder / f"worker{at}.log").open("ab") as log:
        return subprocess.Popen(command, env={**os.environ, **own}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                start_new_session=True)  # fmt: skip


def _gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    found = sorted(int(path.name[6:]) for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
    return [str(number) for number in range(len(found))]


def share(gpus: list[str], at: int, workers: int) -> list[str]:
    """The GPUs of worker `at`: its equal part, or one that it shares where there are fewer GPUs than workers."""
    if len(gpus) < workers:
        return [gpus[at % len(gpus)]]
    each = len(gpus) // workers
    return gpus[at * each : (at + 1) * each]


class Client:
    """A worker's side: asks the chief for trials, and shows while one runs that it is alive."""

    def __init__(self, oracle: KeptOracle):
        self._client = OracleClient(oracle)
        self._client.get_space()  # waits for the chief
        self.tuner_id = self._client.tuner_id
        self._running: str | None = None
        threading.Thread(target=self._show_life, daemon=True).start()

    def create_trial(self, tuner_id: str) -> Any:
        """The next trial, as the oracle's."""
        trial = self._client.create_trial(tuner_id)
        self._running = trial.trial_id if trial.status == "RUNNING" else None
        return trial

    def end_trial(self, trial: Any) -> None:
        """Tells the chief."""
        self._running = None
        self._client.end_trial(trial)

    def _show_life(self) -> None:
        """Asks the chief for the running trial every few seconds; without a chief, the trial is saved and ends."""
        heard = time.monotonic()
        while True:
            time.sleep(SIGN_OF_LIFE)
            running = self._running
            if running is None:
                heard = time.monotonic()
                continue
            try:
                request = protos.get_service().GetTrialRequest(trial_id=running)
                self._client.stub.GetTrial(request, timeout=SIGN_OF_LIFE)
                heard = time.monotonic()
            except grpc.RpcError:
                if time.monotonic() - heard > SILENCE:
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
