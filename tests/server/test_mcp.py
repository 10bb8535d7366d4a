"""`partsong mcp` as its clients use it: a process of its own, spoken to by the official SDK."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import TextContent

from partsong.store import open_store
from tests.serving import recipe_file


@asynccontextmanager
async def connected(folder: Path, *recipes: str) -> AsyncIterator[Client]:
    """A client of a server with these recipes, whose store is in the folder."""
    arguments = ["-m", "partsong", "mcp", *(word for recipe in recipes for word in ("--recipe", recipe))]
    environment = dict(os.environ) | {"PARTSONG_STATE": str(folder / "state")}
    parameters = StdioServerParameters(command=sys.executable, args=arguments, env=environment, cwd=folder)
    async with Client(stdio_client(parameters)) as client:
        yield client


async def test_a_question_is_answered_and_its_progress_told(tmp_path: Path) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with connected(tmp_path, recipe_file(tmp_path)) as client:
        ask, recipes = sorted((await client.list_tools()).tools, key=lambda tool: tool.name)
        assert (ask.name, recipes.name) == ("ask", "recipes")
        assert "three" in ask.input_schema["properties"]["recipe"]["description"]
        assert ask.output_schema is not None
        assert {"answer", "dollars", "losses", "calls"} <= ask.output_schema["properties"].keys()
        assert recipes.output_schema is not None
        result = await client.call_tool("ask", {"question": "Is it so?"}, progress_callback=hear)
    assert not result.is_error
    assert isinstance(result.content[0], TextContent)
    assert result.content[0].text == "So it is"
    assert result.structured_content is not None
    assert result.structured_content["answer"] == "So it is"
    assert len(result.structured_content["calls"]) == 4
    steps = [progress for progress, _, _ in told]
    assert steps == sorted(set(steps))
    assert {total for _, total, _ in told} == {4}
    assert sum("has answered" in (message or "") for _, _, message in told) == 3
    assert told[-1][2] == "scripted:z?text=So+it+is writes the answer"
    async with open_store(tmp_path / "state" / "journal.db") as store:
        (run,) = await store.runs(10)
        assert run.labels["api"] == "mcp"


async def test_recipes_are_listed_and_others_refused(tmp_path: Path) -> None:
    broken = recipe_file(tmp_path, name="broken", aggregator="nobody:z").replace("three", "broken")
    Path(broken).write_text(Path(broken).read_text("utf-8").replace('name = "three"', 'name = "broken"'), "utf-8")
    async with connected(tmp_path, recipe_file(tmp_path), broken) as client:
        listed = (await client.call_tool("recipes", {})).structured_content
        assert listed is not None
        assert [recipe["name"] for recipe in listed["recipes"]] == ["three"]
        assert listed["recipes"][0]["calls"] == 4
        assert "nobody" in listed["unusable"]["broken"]
        for name, said in (("broken", "cannot be used"), ("nothing", "known: three")):
            refused = await client.call_tool("ask", {"question": "?", "recipe": name})
            assert refused.is_error
            assert isinstance(refused.content[0], TextContent)
            assert said in refused.content[0].text


async def test_a_run_that_fails_is_an_error_that_says_why(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, aggregator="scripted:z?fail=auth")
    async with connected(tmp_path, recipe) as client:
        result = await client.call_tool("ask", {"question": "Is it so?"})
    assert result.is_error


async def test_what_is_taken_back_is_cancelled(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, aggregator="scripted:z?tokens=1000&each=0.1")
    async with connected(tmp_path, recipe) as client:
        asking = asyncio.create_task(client.call_tool("ask", {"question": "Is it so?"}))
        async with (
            open_store(tmp_path / "state" / "journal.db") as store,
            asyncio.timeout(60),
        ):  # seconds, after which the test hangs
            while not await store.runs(1):
                await asyncio.sleep(0.1)
            asking.cancel()
            await asyncio.wait((asking,))
            while (await store.runs(1))[0].status != "failed":
                await asyncio.sleep(0.1)
