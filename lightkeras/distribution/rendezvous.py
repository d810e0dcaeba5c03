"""Workers meet and compare their configurations before TensorFlow starts.

If workers have different lists of hosts, TensorFlow hangs silently. So every worker listens at its own address, asks at
every other one, and returns when it has asked all and all have asked it. A request and its answer are alike: a line of
JSON with the worker's index, its configuration and a number of its process.
"""

import contextlib
import json
import secrets
import socket
import socketserver
import threading
import time
from typing import Any

from lightkeras.utils.checks import ArgumentError, lightkeras_error

MEETING_SECONDS = 600.0  # the machines of the other workers may still be starting
_PAUSE_SECONDS = 0.1  # between two tries
_ANSWER_SECONDS = 10.0
_MAX_LINE_BYTES = 1 << 20
_FIELDS = {"index", "config", "process"}


def meet(addresses: list[str], index: int, config: dict[str, Any], timeout: float = MEETING_SECONDS) -> None:
    """Returns when every worker has asked every other one, and all have the same configuration.

    Args:
        addresses: "host:port" of every worker, in their order.
        index: The index of this process in `addresses`.
        config: Values that must be the same for all (JSON values).
        timeout: Seconds to wait for the others.

    Raises:
        OSError: The port of this worker is in use.
        ArgumentError: Another worker has a different configuration; the message shows both.
        TimeoutError: A worker has not come; the message names it, and the reason.
    """
    deadline = time.monotonic() + timeout
    with _listen(addresses[index], {"index": index, "config": config, "process": secrets.token_hex(8)}) as server:
        for other, address in enumerate(addresses):
            if other != index:
                server.peers[other] = peer = _ask(server, other, address, deadline)
                server.require_same(peer, address, other)
        _wait_for_requests(server, addresses, deadline)


class _Server(socketserver.ThreadingTCPServer):
    """Answers requests with `own`.

    Attributes:
        own: This worker's line: its index, configuration and process.
        seen_peers: The lines received, each with the host that sent it.
        peers: The answers received, by index.
    """

    allow_reuse_address = daemon_threads = True

    def __init__(self, port: int, own: dict):
        self.own, self.seen_peers, self.peers = own, [], {}
        super().__init__(("", port), _Handler)

    def require_same(self, peer: dict, host: str, index: int | None = None) -> None:
        """Raises ArgumentError for a peer with another configuration, or with another index than its address has."""
        mine, others = self.own["config"], peer["config"]
        names = [name for name in {**mine, **others} if mine.get(name) != others.get(name)]
        if names:
            mine, others = ({name: config.get(name) for name in names} for config in (mine, others))
            received = (
                f"worker {self.own['index']} (this process) has {mine}, worker {peer['index']} at {host} has {others}"
            )
        elif peer["index"] == self.own["index"]:
            received = f"two processes are worker {peer['index']}: this one and one at {host}"
        elif index not in (None, peer["index"]):
            received = f"worker {peer['index']} at {host}, the address of worker {index}"
        else:
            return
        raise ArgumentError(
            f"Expected all workers to have the same cluster, each at its own address. Received: {received}"
        )

    def check_requests(self) -> set[str]:
        """Checks every worker that has asked so far; returns their processes."""
        for peer, host in list(self.seen_peers):
            self.require_same(peer, host)
            if self.peers.get(peer["index"], peer)["process"] != peer["process"]:
                raise ArgumentError(
                    f"Expected one process to be worker {peer['index']}. Received: a request from {host} by another "
                    "process than the one at its address (is it started twice, or again?)"
                )
        return {peer["process"] for peer, _ in self.seen_peers}


class _Handler(socketserver.StreamRequestHandler):
    timeout = _ANSWER_SECONDS
    server: Any

    def handle(self):
        with contextlib.suppress(OSError, ValueError):  # a peer that disconnects tries again; ignore strangers
            peer = _read(self.rfile)
            self.wfile.write(_to_line(self.server.own))
            self.server.seen_peers.append((peer, self.client_address[0]))


@contextlib.contextmanager
def _listen(address: str, own: dict):
    """Answers requests in the background; afterwards the port is free for TensorFlow."""
    port = int(address.rpartition(":")[2])
    try:
        server = _Server(port, own)
    except OSError as error:
        raise lightkeras_error(OSError)(
            f"Expected port {port} of this worker ({address}) to be free. Received: {error}"
        ) from error
    with server:
        threading.Thread(target=server.serve_forever, args=(_PAUSE_SECONDS,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def _ask(server: _Server, index: int, address: str, deadline: float) -> dict:
    """Returns the line of the worker at `address`; tries again until it answers."""
    while True:
        server.check_requests()
        try:
            return _request(address, server.own)
        except (OSError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        if time.monotonic() >= deadline:
            raise _missing(index, address, problem)
        time.sleep(_PAUSE_SECONDS)


def _request(address: str, own: dict) -> dict:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS) as connection:
        connection.sendall(_to_line(own))
        with connection.makefile("rb") as answer:
            return _read(answer)


def _wait_for_requests(server: _Server, addresses: list[str], deadline: float) -> None:
    """Keeps answering until every peer has asked."""
    while True:
        asked = server.check_requests()
        late = [index for index, peer in server.peers.items() if peer["process"] not in asked]
        if not late:
            return
        if time.monotonic() >= deadline:
            raise _missing(late[0], addresses[late[0]], "it answers, but does not ask")
        time.sleep(_PAUSE_SECONDS)


def _missing(index: int, address: str, problem: str) -> Exception:
    return lightkeras_error(TimeoutError)(
        f"Expected every worker to come. Received: nothing from worker {index} at {address} ({problem}). Is it "
        "running, do firewalls let that port through, and has every worker the same list in the same order?"
    )


def _to_line(own: dict) -> bytes:
    return json.dumps(own).encode() + b"\n"


def _read(stream) -> dict:
    peer = json.loads(stream.readline(_MAX_LINE_BYTES))
    if not isinstance(peer, dict) or set(peer) != _FIELDS or not isinstance(peer["config"], dict):
        raise ArgumentError("the answer is not that of a worker of lightkeras")
    return peer
