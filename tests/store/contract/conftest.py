"""Every test here runs once for each back end."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.pooler import pooling
from tests.postgres import Cluster
from tests.store.contract.backends import BACKENDS, POOLER, SERVER, Opening, opened


@pytest.fixture(params=BACKENDS)
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the back end."""
    name = str(request.param)
    if name != "sqlite":
        server: Cluster = request.getfixturevalue("postgres")
        monkeypatch.setenv(SERVER, str(server.port))
    if name == "pooler":
        monkeypatch.setenv(POOLER, str(request.getfixturevalue("pooler")))
    return name


@pytest.fixture(scope="session")
def pooler(postgres: Cluster) -> Iterator[int]:
    """The port of a pooler before the server of all tests."""
    with pooling(postgres) as port:
        yield port


@pytest.fixture
def opening(name: str, tmp_path: Path) -> Opening:
    """Opens the test's own database, which is empty at first and the same each time."""
    return partial(opened, name, tmp_path)
