"""`partsong replay`: a stored run, told again as it was."""

import asyncio
import json
from pathlib import Path

import pytest

from partsong.cli.replay import Clock, tell
from partsong.events import AnyEvent, LayerFinished, from_json
from tests import grammar
from tests.cli.test_cli import code_of, write
from tests.clock import jumping
from tests.screen import Screen
from tests.store.samples import forget_calls


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's state of this test's own, and an empty folder to work in."""
    folder = tmp_path / "state"
    monkeypatch.setenv("PARTSONG_STATE", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def both(capfd: pytest.CaptureFixture[str], recipe: str, *arguments: str) -> tuple[tuple[int, str, str], ...]:
    """What `ask` and the replay of it came to: exit code, standard output and standard error."""
    capfd.readouterr()
    outcomes = []
    for command in (["ask", "-r", recipe, *arguments, "Why?"], ["replay", "last", "--at-once", *arguments]):
        code = code_of(*command)
        outcomes.append((code, *capfd.readouterr()))
    return tuple(outcomes)


def test_in_json_it_is_the_same_line_for_line(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = write(
        Path(), "scripted:alice?tokens=30", "scripted:bob?fail=rate&after=3", last="scripted:carol?output=3000"
    )
    asked, replayed = both(capfd, recipe, "--json")
    assert asked == replayed
    events = [from_json(line) for line in asked[1].splitlines()]
    grammar.check(events)
    assert sum("_delta" in json.loads(line)["event"] for line in asked[1].splitlines()) > 30


@pytest.mark.parametrize("arguments", [[], ["--proposals"], ["--quiet"]])
def test_in_a_pipe_it_is_the_same(arguments: list[str], state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = write(Path(), "scripted:alice", "scripted:bob?fail=rate", last="scripted:carol")
    asked, replayed = both(capfd, recipe, *arguments)
    assert asked == replayed
    assert asked[0] == 0
    assert "carol:" in asked[1]


def test_a_run_that_failed_fails_again(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = write(Path(), "scripted:alice", last="scripted:carol?fail=server&after=2")
    asked, replayed = both(capfd, recipe)
    assert asked == replayed
    assert asked[0] == 1
    assert "carol failed, as its script says" in asked[2]


def test_on_a_terminal_it_is_drawn_with_its_own_seconds(state: Path) -> None:
    recipe = write(Path(), "scripted:alice?first=0.3", last="scripted:carol?text=It is **so**.")
    assert code_of("ask", "--json", "-r", recipe, "Why?") == 0
    screen = Screen("replay", "last", "--at-once")
    assert screen.end() == 0
    assert "It is so." in screen.text
    alice = next(line for line in screen.lines if "scripted:alice" in line)
    assert float(alice.split()[-2]) >= 0.3
    assert screen.cursor_is_visible


def test_ctrl_c_ends_it_and_gives_the_terminal_back(state: Path) -> None:
    recipe = write(Path(), "scripted:alice?first=0.2", last="scripted:carol")
    assert code_of("ask", "--json", "-r", recipe, "Why?") == 0
    screen = Screen("replay", "last", "--speed", "0.001")
    screen.wait_for("waiting")
    screen.type(b"\x03")
    assert screen.end() == 130
    assert screen.cursor_is_visible


@jumping
@pytest.mark.parametrize(("speed", "expected"), [(1.0, [0.0, 2.0, 2.0, 7.0]), (2.0, [0.0, 1.0, 1.0, 3.5])])
async def test_events_keep_their_distances(speed: float, expected: list[float]) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    heard: list[float] = []
    clock = Clock(speed)

    async def hear(event: AnyEvent) -> None:
        heard.append(loop.time() - begun)
        assert clock.now() == pytest.approx(heard[-1] * speed)

    await tell([(seconds, LayerFinished(0, 1)) for seconds in (0.0, 2.0, 2.0, 7.0)], hear, clock)
    assert heard == pytest.approx(expected)


@jumping
async def test_a_slow_listener_is_not_waited_for_twice() -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    heard: list[float] = []

    async def hear(event: AnyEvent) -> None:
        heard.append(loop.time() - begun)
        await asyncio.sleep(3)

    await tell([(seconds, LayerFinished(0, 1)) for seconds in (0.0, 2.0, 7.0)], hear, Clock(1.0))
    assert heard == pytest.approx([0.0, 3.0, 7.0])


@jumping
async def test_at_once_takes_no_time_but_knows_what_time_it_was() -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    clock = Clock(float("inf"))
    heard: list[float] = []

    async def hear(event: AnyEvent) -> None:
        heard.append(clock.now())

    await tell([(seconds, LayerFinished(0, 1)) for seconds in (0.0, 2.0, 3600.0)], hear, clock)
    assert heard == [0.0, 2.0, 3600.0]
    assert loop.time() == begun


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--speed", "2", "--at-once"], "exclude each other"),
        (["--speed", "0"], "above 0"),
        (["--speed", "nan"], "above 0"),
        ([], "no run is stored yet"),
    ],
)
def test_wrong_arguments(arguments: list[str], words: str, state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of("replay", "last", *arguments) == 2
    assert words in capfd.readouterr().err


def test_without_its_words_nothing_can_be_replayed(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = write(Path(), "scripted:alice", last="scripted:carol")
    assert code_of("ask", "-r", recipe, "--store", "metadata", "Why?") == 0
    assert code_of("replay", "last") == 2
    assert 'store = "metadata"' in capfd.readouterr().err


def test_a_run_of_an_earlier_version_is_replayed(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = write(Path(), "scripted:alice?output=1000", "scripted:bob?fail=rate&after=2", last="scripted:carol")
    capfd.readouterr()
    assert code_of("ask", "--json", "-r", recipe, "Why?") == 0
    asked = [from_json(line) for line in capfd.readouterr().out.splitlines()]
    forget_calls(state / "journal.db")
    assert code_of("replay", "last", "--at-once", "--json") == 0
    replayed = [from_json(line) for line in capfd.readouterr().out.splitlines()]
    assert [type(event) for event in replayed] == [type(event) for event in asked]
    assert replayed[-1] == asked[-1]
    screen = Screen("replay", "last", "--at-once")
    assert screen.end() == 0
    assert "3 calls" in screen.text
