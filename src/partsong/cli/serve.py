"""`partsong serve`: the server, run by granian in one process or several that share a port.

An address that others can reach is refused without keys: whoever finds it would spend your money.
"""

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from msgspec.structs import replace

from partsong.assembly import find_configuration, keys_of_server, keys_path, tell_workers
from partsong.configuration import Serving, StoreMode
from partsong.errors import ConfigurationError, InputError
from partsong.recipe import find_recipe

HEADERS_WITHIN = 30_000  # milliseconds for the headers of a request


def serve(
    *,
    host: Annotated[str | None, Parameter(metavar="ADDRESS", help="Where to listen: 127.0.0.1, if not said.")] = None,
    port: Annotated[int | None, Parameter(metavar="N", help="8080, if not said; 0 for any that is free.")] = None,
    recipe: Annotated[
        tuple[str, ...],
        Parameter(
            name=("--recipe", "-r"),
            metavar="NAME|FILE",
            consume_multiple=False,
            help="Serve this recipe, and no other; may be repeated.",
        ),
    ] = (),
    workers: Annotated[int | None, Parameter(metavar="N", help="Processes that share the port and the store.")] = None,
    at_once: Annotated[int | None, Parameter(metavar="N", help="Runs at once, in each process.")] = None,
    log: Annotated[Literal["text", "json"] | None, Parameter(metavar="KIND", help="How the log is written.")] = None,
    origin: Annotated[
        tuple[str, ...],
        Parameter(metavar="URL", consume_multiple=False, help="A web page's origin that may call; may be repeated."),
    ] = (),
    store: Annotated[StoreMode | None, Parameter(metavar="MODE", help="What is kept of runs.")] = None,
    config: Annotated[Path | None, Parameter(metavar="FILE", help="This configuration, and no other.")] = None,
) -> int:
    """Serve recipes and models behind the APIs of OpenAI and Anthropic."""
    configuration = find_configuration(config)
    said: dict[str, Any] = {
        "host": host,
        "port": port,
        "recipes": tuple(_absolute(name) for name in recipe) or None,
        "workers": workers,
        "at_once": at_once,
        "log": log,
        "origins": origin or None,
    }
    serving = replace(configuration.server, **{name: value for name, value in said.items() if value is not None})
    try:
        serving.__post_init__()
    except ValueError as problem:
        raise ConfigurationError(f"serve: {problem}") from None
    for name in serving.recipes:
        if not Path(name).is_dir():
            find_recipe(name)
    check_address(serving.host)
    serving = replace(serving, port=free_port(serving))
    tell_workers(configuration, store, serving)
    return run(serving)


def check_address(host: str) -> None:
    """Raise `InputError` where others can reach the address and no key is made."""
    if keys_of_server().any():
        return
    if not all(address.is_loopback for address in _addresses(host)):
        raise InputError(
            f"--host {host} can be reached from other machines, and there are no keys, so that anybody could spend "
            f"your money. Make one first: partsong keys add NAME (they are kept in {keys_path()})"
        )


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:  # a name
        pass
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except OSError as problem:
        raise InputError(f"--host {host}: there is no such address here: {problem.strerror}") from None
    return [ipaddress.ip_address(address) for address in found]


def free_port(serving: Serving) -> int:
    """The port to listen on, known to be free. Raises `InputError`."""
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((serving.host, serving.port))
        except OSError as problem:
            raise InputError(f"{serving.host}:{serving.port} cannot be listened on: {problem.strerror}") from None
        port: int = probe.getsockname()[1]
        return port


def run(serving: Serving) -> int:
    """Serve until a signal says to stop."""
    try:
        from granian import Granian
        from granian.constants import Interfaces
        from granian.http import HTTP1Settings
    except ImportError:
        raise ConfigurationError("serve needs the extra `server`: pip install 'partsong[server]'") from None
    shown = f"[{serving.host}]" if ":" in serving.host else serving.host
    print(
        f"partsong: http://{shown}:{serving.port}/v1 (OpenAI), http://{shown}:{serving.port} (Anthropic)",
        file=sys.stderr,
    )
    granian = Granian(
        "partsong.server:app",
        serving.host,
        serving.port,
        interface=Interfaces.ASGI,
        workers=serving.workers,
        websockets=False,
        http1_settings=HTTP1Settings(header_read_timeout=HEADERS_WITHIN),
        log_level="warning",  # type: ignore[arg-type]
        workers_kill_timeout=int(serving.drain) + 10,
    )
    granian.serve()
    return 0


def _absolute(name: str) -> str:
    """A file's name that means the same in every process."""
    path = Path(name).expanduser()
    return os.fspath(path.absolute()) if name.endswith(".toml") or path.is_dir() else name
