"""What holds for every test: no socket leaves this machine, no run enters the user's store, no task is left.

No test fails because the machine is slow: `jumping` in `tests/clock.py` replaces the clock, and the profile of
Hypothesis below has no limits of time.
"""

import asyncio
import inspect
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import postgres as postgresql
from tests.offline import sitecustomize as sitecustomize  # from here on, the network is refused

# A shell ignores Ctrl-C for what it runs in the background, and programs inherit that; those that are tested must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hypothesis times each example, and the drawing of its inputs, by the wall clock. On a machine that is busy with other
# programs both take many times as long, and a test would fail without a fault of the code.
settings.register_profile("any_speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_speed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Watch over each asynchronous test, from before its other fixtures are made until after they are gone."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_task_left")


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The runs of tests, and of the processes that they start, are not kept among the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARTSONG_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgresql.Cluster]:
    """A PostgreSQL server for all tests. Without its programs the tests that need it are skipped."""
    if (why := postgresql.missing()) is not None:
        pytest.skip(why)
    with postgresql.cluster() as cluster:
        yield cluster


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(10):  # what was cancelled needs a few turns of the loop to end
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"the test left tasks running: {', '.join(str(task.get_coro()) for task in left)}"
