"""The live page: serves a run's report from its folder while another process trains, and touches nothing there.

The standard library's server suffices: three addresses, and no file is served by its name, so that no path can lead out
of the folder. The page asks every two seconds for the digests of its sections, a small JSON, and for those sections
that have changed.
"""

import functools
import json
import os
import secrets
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path

from lightkeras.report.page import Page, make_page, require_folder
from lightkeras.utils.checks import require
from lightkeras.utils.serving import KnownHosts, address_error, url_of

SHARE = 0.05  # of one processor that making the page may take
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'nonce-{}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class LivePage:
    """The page of a folder, made again when it is asked for and old enough.

    Args:
        folder: The folder of a run or of a search.
    """

    def __init__(self, folder: Path):
        self._folder, self._lock = folder, threading.Lock()
        self._page: Page | None = None
        self._next = 0.0

    def page(self) -> Page:
        """Returns the page: at most as old as a second, or as twenty times what it took to make."""
        with self._lock:
            if self._page is None or time.monotonic() >= self._next:
                began = time.monotonic()
                self._page = make_page([self._folder])
                now = time.monotonic()
                self._next = now + max(1.0, (now - began) / SHARE)
            return self._page


class Server(ThreadingHTTPServer):
    """Serves a live page.

    Args:
        address: Host and port.
        live: The page.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], live: LivePage):
        self.live = live
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.known = KnownHosts(address[0])
        super().__init__(address, Handler)


class Handler(BaseHTTPRequestHandler):
    """Answers "/", "/state.json" and "/section/NAME"."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "lightkeras", ""
    timeout = 60

    def do_GET(self) -> None:
        """Answers a request."""
        if self.headers.get("Host", "") not in self.server.known:
            self._send(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", "Unknown Host: use the address that is printed.")
            return
        page, path = self.server.live.page(), self.path.partition("?")[0]
        name = path.removeprefix("/section/")
        if path == "/":
            nonce = secrets.token_urlsafe(16)
            self._send(HTTPStatus.OK, "text/html", page.render(_script(), nonce), nonce)
        elif path == "/state.json":
            state = {"title": f"{page.name}: {page.status}", "sections": page.digests()}
            self._send(HTTPStatus.OK, "application/json", json.dumps(state))
        elif path.startswith("/section/") and name in page.parts():
            self._send(HTTPStatus.OK, "text/html", page.parts()[name])
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", "Not found")

    def _send(self, status: HTTPStatus, kind: str, text: str, nonce: str = "none") -> None:
        data = text.encode("utf-8", "replace")
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(data)), "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": POLICY.format(nonce), "Cross-Origin-Resource-Policy": "same-origin",
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args) -> None:
        """Prints nothing: a line per request would fill the terminal."""


@functools.cache
def _script() -> str:
    return resources.files("lightkeras.report").joinpath("templates/live.js").read_text(encoding="utf-8")


def make_server(folder: Path, host: str, port: int) -> Server:
    """Makes the server; it listens, and answers once `serve_forever` is called.

    Raises:
        ValueError: The folder is none of a run or a search, or the port is no port.
        OSError: Another program listens there, or the host is no address of this machine; the message names it.
    """
    require_folder(folder)
    require(0 <= port < 65536, "--port", "from 0 to 65535", port)
    try:
        return Server((host, port), LivePage(folder))
    except OSError as error:
        raise address_error(host, port, "live page", error) from error


def watch(folder: Path, host: str, port: int) -> None:
    """Serves the live page of `folder` until Ctrl-C, at the lowest priority, so that a training goes before."""
    with make_server(folder, host, port) as server:
        os.nice(19)
        print(f"Watching {folder}: {url_of(host, server.server_address[1])}  (Ctrl-C ends)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
