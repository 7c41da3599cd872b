"""Refuses every connection that leaves this machine. Python runs this file at its start, its folder being on the path.

`ATTEMPTS` keeps what was refused, for libraries that try, catch the error and say nothing. What native code does on its
own is not seen: Python's audit hooks tell of Python's sockets.
"""

import ipaddress
import socket
import sys

ATTEMPTS: list[str] = []
NAMES = {"localhost", "localhost.localdomain", "ip6-localhost", ""}


class NetworkError(RuntimeError):
    """No OSError: what handles a missing network quietly must not handle this."""


def is_here(host: object) -> bool:
    """Whether a host is this machine."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host is None or host in NAMES or host == socket.gethostname():
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def look(event: str, arguments: tuple[object, ...]) -> None:
    """Raise where an event of Python's own sockets names another machine."""
    if event in ("socket.connect", "socket.sendto"):
        connection, address = arguments[:2]
        if connection.family not in (socket.AF_INET, socket.AF_INET6):  # a socket file leads nowhere else
            return
        host = address[0] if isinstance(address, tuple) else address
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if not is_here(host):
        ATTEMPTS.append(f"{event} {host}")
        raise NetworkError(f"{event} {host}: tests use no network")


sys.addaudithook(look)
