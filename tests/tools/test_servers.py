"""Servers with tools, as programs of their own: what is offered, and what becomes of servers that misbehave."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from partsong.configuration import ToolServer
from partsong.toolbox import OfferedTool, Result
from partsong.tools.servers import Servers

PROGRAM = str(Path(__file__).with_name("misbehaving.py"))


@asynccontextmanager
async def serving(settings: ToolServer | None = None, starts: Path | None = None) -> AsyncIterator[Servers]:
    command = (sys.executable, PROGRAM, *(() if starts is None else (str(starts),)))
    servers = Servers({"odd": settings or ToolServer(command)})
    try:
        yield servers
    finally:
        await servers.close()


async def offered(servers: Servers, name: str) -> OfferedTool:
    offer = (await servers.offers(["odd"]))["odd"]
    assert offer.problem == ""
    return next(tool for tool in offer.tools if tool.name == name)


async def used(servers: Servers, name: str, **arguments: object) -> Result:
    return await servers.use(await offered(servers, name), arguments)


async def test_a_tool_that_only_reads_is_offered_under_the_name_of_its_server() -> None:
    async with serving() as servers:
        tool = await offered(servers, "say")
        assert tool.tool.name == "odd__say"
        assert tool.tool.description == "Say a text again."
        assert await servers.use(tool, {"text": "see https://example.org/x, please"}) == Result(
            "see https://example.org/x, please", sources=("https://example.org/x",)
        )


async def test_a_tool_that_may_write_or_has_a_huge_schema_is_not_offered() -> None:
    async with serving() as servers:
        names = [tool.name for tool in (await servers.offers(["odd"]))["odd"].tools]
        assert "write" not in names
        assert "large" not in names


async def test_tools_that_are_allowed_by_name_are_offered_and_no_others() -> None:
    async with serving(ToolServer((sys.executable, PROGRAM), allow=("write", "say"))) as servers:
        assert [tool.name for tool in (await servers.offers(["odd"]))["odd"].tools] == ["say", "write"]
        assert ("hang", False) in await servers.listed("odd")


async def test_a_server_that_offers_nothing_is_told() -> None:
    async with serving(ToolServer((sys.executable, PROGRAM), allow=("none",))) as servers:
        assert "offers no tool" in (await servers.offers(["odd"]))["odd"].problem


async def test_a_program_that_does_not_exist_is_told() -> None:
    async with serving(ToolServer(("/no/such/program",))) as servers:
        assert (await servers.offers(["odd"]))["odd"].problem == "there is no program /no/such/program"


async def test_a_program_that_ends_at_once_is_told_with_its_last_words() -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('no licence')")
    async with serving(ToolServer(command)) as servers:
        assert "no licence" in (await servers.offers(["odd"]))["odd"].problem


async def test_all_callers_share_one_server_and_it_ends_with_its_owner(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    async with serving(starts=starts) as servers:
        tool = await offered(servers, "say")
        said = await asyncio.gather(*(servers.use(tool, {"text": str(number)}) for number in range(20)))
        assert [result.text for result in said] == [str(number) for number in range(20)]
    (pid,) = starts.read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


async def test_a_server_that_dies_in_a_call_is_told_and_started_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    async with serving(starts=starts) as servers:
        assert (await used(servers, "die")).error == "the server has ended or closed the connection"
        assert (await used(servers, "say", text="again")).text == "again"
    assert len(starts.read_text().split()) == 2


async def test_a_tool_that_never_answers_is_told_and_its_server_started_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    command = (sys.executable, PROGRAM, str(starts))
    async with serving(ToolServer(command, deadline=0.2)) as servers:
        hang, say = await offered(servers, "hang"), await offered(servers, "say")
        assert (await servers.use(hang, {})).error == "no answer within 0.2 s"
        assert (await servers.use(hang, {})).error == "no answer within 0.2 s"
        assert await servers.offers(["odd"]) != {}
        for _ in range(100):  # a busy machine may take longer than the deadline for any answer
            if (await servers.use(say, {"text": "back"})).text == "back":
                break
        else:
            raise AssertionError("the server was not started again")
    assert len(starts.read_text().split()) >= 2


async def test_a_hundred_megabytes_are_not_read_and_told(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    async with serving(starts=starts) as servers:
        assert (await used(servers, "flood")).error == "the result has more than 8 MiB, so it was not read"
        assert (await used(servers, "say", text="on")).text == "on"
    assert len(starts.read_text().split()) == 1


async def test_a_tool_that_fails_says_why() -> None:
    async with serving() as servers:
        assert await used(servers, "fail") == Result("fail", "fail")


async def test_a_result_that_does_not_fit_its_own_schema_is_text_like_any_other() -> None:
    async with serving() as servers:
        assert (await used(servers, "lie")).text == "lie"


async def test_a_picture_is_left_out_and_told() -> None:
    async with serving() as servers:
        result = await used(servers, "picture")
        assert result.text.startswith("[left out: image, which is no text]\n\n</tool-result-0>")
        assert result.sources == ("https://example.org/a(b)",)


async def test_a_tool_that_the_server_has_changed_is_not_called_as_it_was_offered() -> None:
    async with serving() as servers:
        say = await offered(servers, "say")
        await used(servers, "change")
        for _ in range(1000):
            if (await offered(servers, "say")) != say:
                break
            await asyncio.sleep(0.01)
        assert "does not offer this tool any more" in (await servers.use(say, {"text": "x"})).error


async def test_a_program_gets_its_own_key_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD_KEY", "for-odd")
    monkeypatch.setenv("OTHER_KEY", "secret")
    async with serving(ToolServer((sys.executable, PROGRAM), key_env="ODD_KEY")) as servers:
        said = (await used(servers, "environment")).text
        assert "for-odd" in said
        assert "secret" not in said


async def test_a_missing_key_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ODD_KEY", raising=False)
    async with serving(ToolServer((sys.executable, PROGRAM), key_env="ODD_KEY")) as servers:
        assert "ODD_KEY is not set" in (await servers.offers(["odd"]))["odd"].problem


async def test_a_server_that_never_starts_is_told_and_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partsong.tools.server.STARTING", 0.3)
    pid = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(3600)"
    async with serving(ToolServer((sys.executable, "-c", code))) as servers:
        assert (await servers.offers(["odd"]))["odd"].problem == "no answer within 0.3 s"
        assert (await servers.offers(["odd"]))["odd"].problem == "no answer within 0.3 s"
    if pid.exists():  # else it was ended before it had begun
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


async def test_a_server_that_is_being_started_is_ended_at_once(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(3600)"
    async with serving(ToolServer((sys.executable, "-c", code))) as servers:
        asked = asyncio.create_task(servers.offers(["odd"]))
        while not pid.exists() or not pid.read_text():
            await asyncio.sleep(0.01)
    assert (await asked)["odd"].problem == "it was ended while it started"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_what_the_sdk_complains_of_is_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    async with serving() as servers:
        await used(servers, "flood")
        await used(servers, "die")
    assert capfd.readouterr() == ("", "")
