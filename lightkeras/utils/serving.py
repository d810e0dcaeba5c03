"""What servers of pages share: which hosts they answer to, and what is said of an address that is in use."""

import ipaddress
import socket
from urllib.parse import urlsplit

from lightkeras.utils.checks import lightkeras_error


class KnownHosts:
    """The names of this machine: a page elsewhere may bind a name of its own to this machine's address.

    Args:
        host: The address that a server listens on.
    """

    def __init__(self, host: str):
        self._names = {"localhost", socket.gethostname().lower(), host.lower()}

    def __contains__(self, given: object) -> bool:
        """Whether a request's `Host`, a name or address with or without a port, names this machine."""
        try:
            name = urlsplit(f"//{given}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def address_error(host: str, port: int, page: str, error: OSError) -> Exception:
    """Returns the error of a server that cannot listen: the address is in use, or none of this machine."""
    return lightkeras_error(OSError)(
        f"Expected {host}:{port} to be free for the {page}. Received: {error.strerror or error}. "
        "Choose another one with --port; --port 0 takes any free one"
    )


def url_of(host: str, port: int) -> str:
    """Returns the address of a server's page."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
