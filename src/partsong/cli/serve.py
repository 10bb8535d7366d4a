"""`partsong serve`: the server, run by granian in one process or several that share a port.

An address that others can reach is refused without keys: whoever finds it would spend your money.
"""

import ipaddress
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from types import FrameType
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from msgspec.structs import replace

from partsong.configuration import Serving, StoreMode, find_configuration
from partsong.errors import ConfigurationError, InputError
from partsong.folders import keys_path
from partsong.keys import keys_of_server
from partsong.recipes.finding import named_recipe
from partsong.server.settings import tell_workers

TARGET = "partsong.server:app"
HEADERS_WITHIN = 30_000  # milliseconds for the headers of a request
HEADERS = 65_536  # bytes of them, and of what is read at a time
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus-client looks for that folder
CONNECTIONS = 4_096  # at least
CLOSING = 10  # seconds more than the runs have, to flush the store
SAYS = {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr"}


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
    said: dict[str, Any] = {
        "host": host,
        "port": port,
        "workers": workers,
        "at_once": at_once,
        "log": log,
        "origins": origin or None,
    }
    return start(said, recipe, store=store, config=config)


def start(
    said: dict[str, Any],
    recipes: Sequence[str],
    *,
    store: StoreMode | None = None,
    config: Path | None = None,
    ready: Callable[[str], object] = lambda url: None,
) -> int:
    """Serve what the configuration says, with what was `said` in its place; `ready` is told the address to call."""
    configuration = find_configuration(config)
    said["recipes"] = tuple(_absolute(name) for name in recipes) or None
    try:
        serving = replace(configuration.server, **{name: value for name, value in said.items() if value is not None})
    except ValueError as problem:
        raise ConfigurationError(f"serve: {problem}") from None
    names = [name if Path(name).is_dir() else named_recipe(name).name for name in serving.recipes]
    check_address(serving.host)
    shown = f"[{serving.host}]" if ":" in serving.host else serving.host
    serving = replace(serving, port=free_port(serving))
    tell_workers(configuration, store, serving)
    url = f"http://{shown}:{serving.port}"
    said_once = ", ".join(names) or f"every shipped one ({url}/v1/models lists them)"
    greeting = (
        f"partsong: {url} is the page; {url}/v1 for OpenAI's clients, {url} for Anthropic's; recipes: {said_once}"
    )
    return run(serving, greeting, ready=lambda: ready(url))


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
        if os.name == "posix":  # elsewhere it means that others may take the port as well
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((serving.host, serving.port))
        except OSError as problem:
            raise InputError(f"{serving.host}:{serving.port} cannot be listened on: {problem.strerror}") from None
        port: int = probe.getsockname()[1]
        return port


def run(
    serving: Serving,
    greeting: str,
    target: str = TARGET,
    *,
    headers_within: int = HEADERS_WITHIN,
    ready: Callable[[], object] = lambda: None,
) -> int:
    """Serve until a signal says to stop. Raises `SystemExit` then, with the code that the signal leaves."""
    try:
        from granian import Granian
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP1Settings
        from granian.log import LogLevels
    except ImportError:
        raise ConfigurationError("serve needs the extra `server`: pip install 'partsong[server]'") from None
    granian = Granian(
        target,
        serving.host,
        serving.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=serving.workers,
        respawn_failed_workers=serving.workers > 1,
        # It counts connections, idle ones too, and an idle one is never cut off: they must not use up the places.
        backpressure=max(CONNECTIONS, 4 * (serving.at_once + serving.waiting)),
        http1_settings=HTTP1Settings(header_read_timeout=headers_within, max_buffer_size=HEADERS),
        log_level=LogLevels.warning,
        log_dictconfig={"handlers": {"console": SAYS, "access": SAYS}},
        workers_kill_timeout=int(serving.drain) + CLOSING,
    )
    allow_files()
    stopped: list[int] = []
    this = os.getpid()
    hangup = signal.getsignal(signal.SIGHUP) if hasattr(signal, "SIGHUP") else None

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != this:  # a worker that has only just begun, with the signals of its parent
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if stopped:  # said twice: then it waits for nothing
            for worker in granian.wrks:
                worker.kill()  # type: ignore[no-untyped-call]
        stopped.append(number)
        granian.signal_handler_interrupt()  # type: ignore[no-untyped-call]

    def say() -> None:
        # A worker is forked with the locks that other threads hold at that moment, and nobody ever gives those back
        # in it: so this one does nothing until all of them are there.
        while not stopped and len(granian.wrks) < serving.workers:
            time.sleep(0.02)
        while not stopped:  # the port is bound by now, but listened on only once a worker does
            with suppress(OSError), socket.create_connection((serving.host, serving.port), 1):
                print(greeting, file=sys.stderr, flush=True)
                ready()
                return
            time.sleep(0.02)

    def begin() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        if hangup is not None:  # granian takes it for a wish to start its workers again
            signal.signal(signal.SIGHUP, signal.SIG_IGN if hangup is signal.SIG_IGN else stop)
        Thread(target=say, daemon=True).start()

    granian.on_startup(begin)
    with shared_metrics(serving.workers):
        granian.serve()
    if stopped:
        raise SystemExit(128 + stopped[0])
    return 0


@contextmanager
def shared_metrics(workers: int) -> Iterator[None]:
    """A folder in which several workers add up what they count, until the block is left."""
    if workers == 1 or SHARED in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="partsong-metrics-") as folder:
        os.environ[SHARED] = folder
        try:
            yield
        finally:
            del os.environ[SHARED]


def allow_files() -> None:
    """As many open files as this process may ask for: each connection is one, and the first limit is often 1,024."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _absolute(name: str) -> str:
    """A file's name that means the same in every process."""
    path = Path(name).expanduser()
    return os.fspath(path.absolute()) if name.endswith(".toml") or path.is_dir() else name
