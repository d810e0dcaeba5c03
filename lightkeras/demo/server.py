"""Serves a page to browsers: on this machine only, unless told otherwise."""

import signal
import socket
import sys
from http import HTTPStatus
from typing import Any

from lightkeras.demo.app import import_gradio, make_app
from lightkeras.demo.page import Page
from lightkeras.utils.checks import import_extra, require
from lightkeras.utils.serving import KnownHosts, address_error, url_of

POLICY = (  # what the browser may load: Gradio's page has scripts within, and makes functions of its templates
    "default-src 'self' data: blob:; script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


class Guarded:
    """An ASGI application that answers to names of this machine alone, and lets its pages load nothing from elsewhere.

    Args:
        app: The application.
        host: The address that its server listens on.
    """

    def __init__(self, app: Any, host: str):
        self._app, self._known = app, KnownHosts(host)

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Answers a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if host not in self._known:
            text = b"Unknown Host: use the address that is printed."
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
            status = HTTPStatus.MISDIRECTED_REQUEST
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": text})
            return

        async def send_guarded(message: dict) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, send_guarded)


def listen(host: str, port: int) -> socket.socket:
    """Opens the address.

    Raises:
        ValueError: The port is no port.
        OSError: Another program listens there, or the host is no address of this machine; the message names it.
    """
    require(0 <= port < 65536, "--port", "from 0 to 65535", port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen()  # whoever asks before the server is ready waits
    except OSError as error:
        opened.close()
        raise address_error(host, port, "demo", error) from error
    return opened


def make_server(page: Page, host: str) -> Any:
    """Makes the server of a page, a `uvicorn.Server`: `run(sockets=[listen(...)])` answers until it is told to exit."""
    import_gradio()
    uvicorn = import_extra("demo", "uvicorn")
    config = uvicorn.Config(  # a factory: Gradio makes its locks in the loop that runs then
        lambda: Guarded(make_app(page), host), factory=True, log_level="warning", access_log=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


def serve(page: Page, host: str, opened: socket.socket) -> None:
    """Serves a page at an address that `listen` opened, until Ctrl-C or SIGTERM; in the main thread.

    Raises:
        ImportError: Gradio is not installed.
    """
    server = make_server(page, host)
    print(f"{page.title}: {url_of(host, opened.getsockname()[1])}  (Ctrl-C ends)", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # files are deleted then too
    try:
        server.run(sockets=[opened])
    except KeyboardInterrupt:
        print()
