"""Workers meet and compare what each was told of the cluster, before TensorFlow starts.

TensorFlow trusts the list: where two processes have different ones it waits on and on, without a word. Every worker
listens at its own address, asks at every other, and goes on when it has asked all and all have asked it. A question
and its answer are alike: a line of JSON with what the process was told.
"""

import contextlib
import json
import secrets
import socket
import socketserver
import threading
import time
from typing import Any

PATIENCE = 600.0  # seconds to wait for the others, whose machines may still be starting
_PAUSE = 0.1  # seconds between two tries
_ANSWER_WITHIN = 10.0  # seconds
_LINE = 1 << 20  # bytes that a line may have


def meet(addresses: list[str], index: int, told: dict[str, Any], patience: float | None = None) -> None:
    """Returns when every worker was asked and has asked, and all were told the same.

    Args:
        addresses: "host:port" of every worker, in their order.
        index: Which of them this process is.
        told: What must be the same for all (JSON values).
        patience: Seconds to wait for the others; None for `PATIENCE`.

    Raises:
        OSError: The port of this worker is in use.
        ValueError: Another worker was told something else; the message says which, and both versions.
        TimeoutError: Not all have come; the message says which, and why.
    """
    deadline = time.monotonic() + (PATIENCE if patience is None else patience)
    with _listening(addresses[index], {"index": index, "told": told, "process": secrets.token_hex(8)}) as server:
        for other, address in enumerate(addresses):
            if other != index:
                server.found[other] = theirs = _ask(server, other, address, deadline)
                server.check(theirs, address, other)
        _wait_to_be_asked(server, addresses, deadline)


class _Server(socketserver.ThreadingTCPServer):
    """Answers who asks: `said` is what it says, `heard` who asked from where, `found` who was asked, by index."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, port: int, said: dict):
        self.said, self.heard, self.found = said, [], {}
        super().__init__(("", port), _Answer)

    def check(self, theirs: dict, where: str, index: int | None = None) -> None:
        """Refuses a worker that was told something else, or (where it is known) is not the one that it should be."""
        mine, theirs_told = self.said["told"], theirs["told"]
        names = [name for name in {**mine, **theirs_told} if mine.get(name) != theirs_told.get(name)]
        ours, others = ({name: told.get(name) for name in names} for told in (mine, theirs_told))
        me = f"worker {self.said['index']} (this process)"
        if names:
            received = f"{me} was told {ours}, and worker {theirs['index']} at {where} {others}"
        elif theirs["index"] == self.said["index"]:
            received = f"two processes are worker {theirs['index']}: this one and one at {where}"
        elif index not in (None, theirs["index"]):
            received = f"at {where}, the address of worker {index}, there is worker {theirs['index']}"
        else:
            return
        raise ValueError(
            f"Expected every worker to be told the same cluster and to be at its place in it. Received: {received}"
        )

    def check_heard(self) -> set[str]:
        """Refuses, as `check` does, those who have asked, and one who was not found in its place; returns who asked."""
        for theirs, host in list(self.heard):
            self.check(theirs, host)
            if self.found.get(theirs["index"], theirs)["process"] != theirs["process"]:
                raise ValueError(
                    f"Expected one process to be worker {theirs['index']}. Received: another one asked, from {host}, "
                    "than was found at its address (started twice, or again?)"
                )
        return {theirs["process"] for theirs, _ in self.heard}


class _Answer(socketserver.StreamRequestHandler):
    timeout = _ANSWER_WITHIN
    server: Any

    def handle(self):
        with contextlib.suppress(OSError, ValueError):  # who breaks off asks again; all others are none of ours
            theirs = _read(self.rfile)
            self.wfile.write(_line(self.server.said))
            self.server.heard.append((theirs, self.client_address[0]))


@contextlib.contextmanager
def _listening(address: str, said: dict):
    """Answers in the background; afterwards the port is free for TensorFlow."""
    port = int(address.rpartition(":")[2])
    try:
        server = _Server(port, said)
    except OSError as error:
        raise OSError(f"Expected port {port} of this worker ({address}) to be free. Received: {error}") from error
    with server:
        threading.Thread(target=server.serve_forever, args=(_PAUSE,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def _ask(server: _Server, index: int, address: str, deadline: float) -> dict:
    """What the worker at `address` was told; tries again until it is there."""
    while True:
        server.check_heard()
        try:
            return _asked(address, server.said)
        except (OSError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        if time.monotonic() >= deadline:
            raise TimeoutError(_missing(index, address, problem))
        time.sleep(_PAUSE)


def _asked(address: str, said: dict) -> dict:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_WITHIN) as connection:
        connection.sendall(_line(said))
        with connection.makefile("rb") as answer:
            return _read(answer)


def _wait_to_be_asked(server: _Server, addresses: list[str], deadline: float) -> None:
    """Who asks late must find an answer."""
    while True:
        asked = server.check_heard()
        late = [index for index, theirs in server.found.items() if theirs["process"] not in asked]
        if not late:
            return
        if time.monotonic() >= deadline:
            raise TimeoutError(_missing(late[0], addresses[late[0]], "it answers, and does not ask"))
        time.sleep(_PAUSE)


def _missing(index: int, address: str, problem: str) -> str:
    return (
        f"Expected every worker to come. Received: no word from worker {index} at {address} ({problem}). Is it "
        "running, do firewalls let that port through, and was every worker told the same list in the same order?"
    )


def _line(said: dict) -> bytes:
    return json.dumps(said).encode() + b"\n"


def _read(stream) -> dict:
    said = json.loads(stream.readline(_LINE))
    if not isinstance(said, dict) or set(said) != {"index", "told", "process"} or not isinstance(said["told"], dict):
        raise ValueError("what answers is no worker of lightkeras")
    return said
