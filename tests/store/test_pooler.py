"""The store behind pgbouncer, and over TLS with a checked certificate. `contract/` runs behind pgbouncer, too."""

import asyncio
import shutil
import subprocess
import uuid
from decimal import Decimal
from pathlib import Path

import pytest

from partsong.errors import StoreError
from tests import postgres as postgresql
from tests.pooler import pooling
from tests.postgres import PASSWORD, WITHIN, Cluster
from tests.store.samples import made

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed, so PostgreSQL is not tested")

from partsong.store.postgres.backend import Postgres  # noqa: E402


async def test_several_processes_share_few_connections_of_a_pooler(postgres: Cluster) -> None:
    name = f"pooled{uuid.uuid4().hex}"
    postgres.database(name)
    with pooling(postgres) as port:
        backends = [Postgres(postgres.address(name, port=port)) for _ in range(8)]
        await asyncio.gather(*(backend.open() for backend in backends))
        held = await asyncio.gather(*(backends[n % 8].hold({"": Decimal(1)}, {"": Decimal(20)}) for n in range(40)))
        await asyncio.gather(*(backend.close() for backend in backends))
    assert len([hold for hold in held if hold is not None]) == 20


def certified(folder: Path, host: str) -> Path:
    """Make a certificate authority, and a certificate for the address `host`; the authority's own certificate."""

    def do(*arguments: str) -> None:
        made = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=WITHIN)
        assert made.returncode == 0, made.stderr

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    do("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=own authority")
    do("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (folder / "names").write_text(f"subjectAltName = IP:{host}\n")
    signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    do("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signing)
    return folder / "ca.crt"


async def test_the_certificate_of_the_server_is_checked(tmp_path: Path) -> None:
    if (why := postgresql.missing()) is not None:
        pytest.skip(why)
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, so no certificate can be made: apt-get install openssl")
    mine, wrong, other = tmp_path / "mine", tmp_path / "wrong", tmp_path / "other"
    for folder in (mine, wrong, other):
        folder.mkdir()
    authority, stranger = certified(mine, "127.0.0.1"), certified(other, "127.0.0.1")

    async def kept(address: str) -> None:
        backend = Postgres(address)
        try:
            await backend.open()
            await backend.keep_call(made(), words=True)
            assert await backend.find_answer(made().key) == made().answer
        finally:
            await backend.close()

    with postgresql.cluster(certificate=mine) as server:
        address = f"{server.address()}?sslmode=verify-full&sslrootcert="
        await kept(f"{address}{authority}")
        with pytest.raises(StoreError, match="certificate verify failed") as caught:
            await kept(f"{address}{stranger}")
        assert PASSWORD not in str(caught.value)
    authority = certified(wrong, "127.0.0.9")  # the certificate of another host
    with postgresql.cluster(certificate=wrong) as server:
        with pytest.raises(StoreError, match="does not match host name"):
            await kept(f"{server.address()}?sslmode=verify-full&sslrootcert={authority}")
    with postgresql.cluster() as server:
        with pytest.raises(StoreError, match="does not support SSL"):
            await kept(f"{server.address()}?sslmode=verify-full&sslrootcert={authority}")
