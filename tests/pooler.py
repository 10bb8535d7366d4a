"""A real pgbouncer in transaction mode: it gives each transaction one of few connections to the tests' PostgreSQL.

So nothing that needs a session survives. Without the program the tests that need it are skipped, and say so.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import postgres as postgresql
from tests.postgres import PASSWORD, USER, WITHIN, Cluster

POOLER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
AT_ONCE = 3  # connections of the pooler to a database: fewer than its clients have


@contextmanager
def pooling(server: Cluster) -> Iterator[int]:
    """pgbouncer in transaction mode before the server; its port."""
    if not Path(POOLER).exists():
        pytest.skip("pgbouncer is not installed, so the store is not tested behind a pooler: apt-get install pgbouncer")
    with tempfile.TemporaryDirectory(prefix="partsong-pooler-") as folder:
        with _running(server, Path(folder)) as port:
            yield port


@contextmanager
def _running(server: Cluster, folder: Path) -> Iterator[int]:
    import psycopg

    owner = postgresql.owner()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    (folder / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": str(folder / "users"),
        "pool_mode": "transaction",
        "default_pool_size": str(AT_ONCE),
        "max_client_conn": "200",
        "server_reset_query": "DISCARD ALL",
        "server_reset_query_always": "1",  # whatever a transaction leaves in its connection is gone
    }
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (folder / "pooler.ini").write_text(f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n{lines}")
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if owner is not None:
            shutil.chown(path, owner)
    log = (folder / "log").open("ab")
    process = subprocess.Popen(
        [POOLER, str(folder / "pooler.ini")], user=owner, cwd=folder, stdout=log, stderr=log,
        extra_groups=None if owner is None else [],
    )  # fmt: skip
    log.close()
    try:
        give_up = time.monotonic() + WITHIN
        while True:
            try:
                psycopg.connect(server.address(port=port), connect_timeout=5).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < give_up, (folder / "log").read_text()
                time.sleep(0.05)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WITHIN)
