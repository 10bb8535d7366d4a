"""Every test here runs once for each back end."""

from functools import partial
from pathlib import Path

import pytest

from tests.postgres import Cluster
from tests.store.contract.backends import BACKENDS, SERVER, Opening, opened


@pytest.fixture(params=BACKENDS)
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the back end."""
    name = str(request.param)
    if name == "postgres":
        server: Cluster = request.getfixturevalue("postgres")
        monkeypatch.setenv(SERVER, str(server.port))
    return name


@pytest.fixture
def opening(name: str, tmp_path: Path) -> Opening:
    """Opens the test's own database, which is empty at first and the same each time."""
    return partial(opened, name, tmp_path)
