"""Refuses every socket that would leave this machine. `conftest.py` imports it for the suite itself.

It is called `sitecustomize` because that is the module that every Python imports as it starts: with this folder in
PYTHONPATH, the commands that tests run are held to the same rule. An audit hook sees each socket whatever opened it,
and nothing is patched. (libuv opens its own, unseen; tests run on asyncio's loop.)
"""

import ipaddress
import sys
from typing import Any


class NetworkRefused(AssertionError):
    """A test reached for the network. No `OSError`, so that nothing takes it for a provider that is down."""


def is_loopback(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host is None or host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not event.startswith("socket."):
        return
    match event, arguments:
        case (("socket.getaddrinfo" | "socket.gethostbyname" | "socket.gethostbyaddr"), (host, *_)):
            pass
        case (("socket.connect" | "socket.bind" | "socket.sendto" | "socket.sendmsg"), (_, (host, *_))):
            pass
        case _:  # a Unix socket, or an event that opens nothing
            return
    if not is_loopback(host):
        raise NetworkRefused(f"the tests reach no network, but {event} was asked for {host!r}")


sys.addaudithook(_refuse)
