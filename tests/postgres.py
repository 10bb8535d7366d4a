"""A real PostgreSQL server for tests: its own data in a temporary folder, on a free port of 127.0.0.1.

The server is started once for all tests of a process, and each test has a database of its own. Programs come from the
folder of Debian's package or from PATH. Without them the tests that need a server are skipped, and say so.
`initdb` refuses root, so root hands the server to the user `postgres` or `nobody`.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

USER = "partsong"
PASSWORD = "pass/w@rd"  # with characters that an address must escape
WITHIN = 60.0  # seconds for the server to start or to stop


@cache
def programs() -> Path | None:
    """The folder with `initdb` and `postgres`, of the newest version; `None` if there is none."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))]
    )
    if (found := shutil.which("initdb")) is not None:
        folders.append(Path(found).resolve().parent)
    usable = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    return usable[-1] if usable else None


def missing() -> str | None:
    """Why no server can be started here; `None` if one can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed, so PostgreSQL is not tested: pip install 'partsong[postgres]'"
    if programs() is None:
        return "PostgreSQL is not installed, so it is not tested: apt-get install postgresql"
    return None


def owner() -> str | None:
    """The user who runs the server; `None` for this user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise AssertionError("root cannot run PostgreSQL, and there is no other user")


class Cluster:
    """A server. `address` is how a client reaches one of its databases.

    folder: where its data are
    port: where it listens
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder, self.port = folder, port or _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._certified = False

    def certify(self, folder: Path) -> None:
        """Let the server, which is not started yet, speak TLS with `server.crt` and `server.key` of the folder."""
        for name in ("server.crt", "server.key"):
            path = self.folder / "data" / name
            path.write_bytes((folder / name).read_bytes())
            path.chmod(0o600)
            if (user := owner()) is not None:
                shutil.chown(path, user)
        self._certified = True

    def address(self, database: str = "postgres", user: str = USER, port: int | None = None) -> str:
        escaped = PASSWORD.replace("/", "%2F").replace("@", "%40")
        return f"postgresql://{user}:{escaped}@127.0.0.1:{port or self.port}/{database}"

    def make(self) -> None:
        folder, user = programs(), owner()
        assert folder is not None
        self.folder.chmod(0o755)
        data, secret = self.folder / "data", self.folder / "password"
        secret.write_text(PASSWORD)
        data.mkdir(mode=0o700)
        if user is not None:
            for path in (data, secret):
                shutil.chown(path, user)
        options = ("--username", USER, "--pwfile", str(secret), "--auth", "scram-sha-256", "--encoding", "UTF8")
        made = subprocess.run(
            [str(folder / "initdb"), "--pgdata", str(data), "--no-sync", "--locale", "C", *options],
            user=user, cwd=self.folder, capture_output=True, text=True, timeout=WITHIN, extra_groups=_groups(user),
        )  # fmt: skip
        assert made.returncode == 0, made.stdout + made.stderr

    def start(self, *, durable: bool = False) -> None:
        """Start the server, and wait until it answers.

        durable: whether commits outlive the machine; a server that is killed keeps them anyway (default: no)
        """
        folder, user = programs(), owner()
        assert folder is not None
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "60",
            "shared_buffers": "32MB",
            "fsync": "on" if durable else "off",
            "ssl": "on" if self._certified else "off",
        }
        command = [str(folder / "postgres"), "-D", str(self.folder / "data")]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, user=user, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                extra_groups=_groups(user),
            )  # fmt: skip
        give_up = time.monotonic() + WITHIN
        while True:
            if self._answers():
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < give_up, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: at once and orderly (SIGINT, the default), or as in a crash (SIGQUIT)."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(WITHIN)
            self._process = None

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.address(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def database(self, name: str) -> str:
        """The address of the database with this name, which is made if it is missing."""
        import psycopg

        there = (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation)  # another process may be faster
        with psycopg.connect(self.address(), autocommit=True) as connection, suppress(*there):
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.address(name)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _groups(user: str | None) -> list[int] | None:
    return None if user is None else []


@contextmanager
def cluster(certificate: Path | None = None) -> Iterator[Cluster]:
    """A server that runs until the block is left. `certificate`: a folder, see `Cluster.certify`; no TLS by default."""
    with tempfile.TemporaryDirectory(prefix="partsong-postgres-") as folder:
        made = Cluster(Path(folder))
        made.make()
        if certificate is not None:
            made.certify(certificate)
        made.start()
        try:
            yield made
        finally:
            made.stop(signal.SIGQUIT)  # nobody needs the data any more
