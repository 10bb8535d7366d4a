"""Keys of the server, in their file and on the command line; and the limiter that heeds their limits."""

import asyncio
import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from partsong.cli.main import run
from partsong.errors import ConfigurationError, InputError
from partsong.folders import keys_path
from partsong.keys import Key, Keys
from partsong.server.concurrency import ConcurrencyLimiter
from partsong.server.problems import ProblemError


def test_a_key_is_found_by_its_secret_which_is_kept_nowhere(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "deep" / "keys.json")
    assert not keys.any()
    secret = keys.add("alice", dollars_per_day=5, recipes=("moa",))
    assert secret.encode() not in keys.path.read_bytes()
    assert keys.path.stat().st_mode & 0o777 == 0o600
    found = keys.find(secret)
    assert found is not None
    assert found.name == "alice"
    assert found.dollars_per_day == Decimal(5)
    assert found.recipes == ("moa",)
    assert keys.find(secret + "x") is None
    assert keys.find("\ud800") is None


def test_another_process_sees_at_once_what_was_made_and_removed(tmp_path: Path) -> None:
    one, other = Keys(tmp_path / "keys.json"), Keys(tmp_path / "keys.json")
    secret = one.add("alice")
    assert other.find(secret) is not None
    one.remove("alice")
    assert other.find(secret) is None


def test_a_damaged_file_is_an_error_and_not_the_same_as_no_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("[{")
    with pytest.raises(ConfigurationError, match=re.escape(str(path))):
        Keys(path).any()


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.json")
    keys.add("alice")
    with pytest.raises(InputError, match="already"):
        keys.add("alice")
    with pytest.raises(InputError, match="1 to 64"):
        keys.add("")
    with pytest.raises(InputError, match="at least 1"):
        keys.add("bob", at_once=0)
    with pytest.raises(InputError, match="alice"):
        keys.remove("bob")


def test_the_command_line_makes_lists_and_removes(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        assert run(["keys", "add", "alice", "--max-dollars-per-day", "5", "--recipes", "moa,local"]) == 0
        secret = capfd.readouterr().out.strip()
        assert Keys(keys_path()).find(secret) is not None
        assert run(["keys", "list"]) == 0
        listed = capfd.readouterr().out
        assert "alice" in listed
        assert "$5" in listed
        assert secret not in listed
        assert run(["keys", "remove", "alice"]) == 0
        assert run(["keys", "remove", "alice"]) == 2
        assert "there is no key" in capfd.readouterr().err
        assert run(["keys", "add"]) == 2
    finally:
        keys_path().unlink(missing_ok=True)


def test_an_address_that_others_can_reach_needs_keys(capfd: pytest.CaptureFixture[str]) -> None:
    for host in ("0.0.0.0", "::"):
        assert run(["serve", "--host", host, "--port", "0"]) == 2
        assert "partsong keys add" in capfd.readouterr().err


def key(**limits: int) -> Key:
    return Key("alice", "", datetime.now(UTC), **limits)  # type: ignore[arg-type]


async def test_places_are_given_in_turn_and_given_back() -> None:
    concurrency, order = ConcurrencyLimiter(1, 10, 10.0), list[int]()

    async def go(number: int) -> None:
        async with concurrency.enter(None):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(go(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert concurrency.inside == 0


async def test_who_leaves_the_queue_leaves_no_trace() -> None:
    concurrency = ConcurrencyLimiter(1, 10, 10.0)
    async with concurrency.enter(None):
        waiting = asyncio.create_task(concurrency.enter(None).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert concurrency.inside == 0
    async with concurrency.enter(None):
        assert concurrency.inside == 1


async def test_a_full_queue_and_lost_patience_say_when_to_come_again() -> None:
    for concurrency in (ConcurrencyLimiter(1, 0, 10.0), ConcurrencyLimiter(1, 1, 0.01)):
        async with concurrency.enter(None):
            with pytest.raises(ProblemError) as caught:
                async with concurrency.enter(None):
                    pass
        assert caught.value.problem.status == 503
        assert caught.value.problem.retry_after is not None
        assert concurrency.inside == 0


async def test_a_keys_limits_are_its_own() -> None:
    concurrency = ConcurrencyLimiter(10, 10, 10.0)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(concurrency.enter(key(at_once=1)))
        with pytest.raises(ProblemError) as caught:
            await stack.enter_async_context(concurrency.enter(key(at_once=1)))
        assert caught.value.problem.status == 429
        await stack.enter_async_context(concurrency.enter(None))
    for _ in range(3):
        async with concurrency.enter(key(requests_per_minute=3)):
            pass
    with pytest.raises(ProblemError) as caught:
        await stack.enter_async_context(concurrency.enter(key(requests_per_minute=3)))
    assert caught.value.problem.status == 429
    assert caught.value.problem.retry_after == pytest.approx(20, abs=5)
