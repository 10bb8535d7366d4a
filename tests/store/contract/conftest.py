"""Every test here runs once for each back end."""

from functools import partial
from pathlib import Path

import pytest

from tests.store.contract.backends import BACKENDS, Opening, opened


@pytest.fixture(params=BACKENDS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of the back end."""
    return str(request.param)


@pytest.fixture
def opening(name: str, tmp_path: Path) -> Opening:
    """Opens the test's own database, which is empty at first and the same each time."""
    return partial(opened, name, tmp_path)
