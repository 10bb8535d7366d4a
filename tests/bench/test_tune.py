"""`partsong tune` as its users run it: a real process, which asks a real server, and is killed in the middle."""

import asyncio
import csv
import hashlib
import json
import os
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from partsong.bench.tune.recipe_file import recipe_toml
from partsong.bench.tune.uses import Use, count_use, earlier_uses, uses_path
from partsong.recipe import Agent, Aggregator, Layer, Recipe
from partsong.recipes.finding import shipped
from partsong.recipes.reading import read
from tests.cli.test_cli import code_of
from tests.upstream import Exchange, Reply, Server, chat

PRICE = {"wise": 30, "dull": 10}  # dollars for a million tokens of input and of output
SKILL = {"wise": 6, "dull": 3}  # of ten answers, so many are right


def answering(exchange: Exchange) -> Reply:
    """Answers a sum. What is right is decided by the request, so that the same request gets the same answer."""
    asked = exchange.json
    text = json.dumps(asked["messages"])
    one, other = re.search(r"What is (\d+) plus (\d+)", text).groups()  # type: ignore[union-attr]
    dice = int(hashlib.sha256(exchange.body).hexdigest(), 16)
    right = dice % 10 < SKILL[asked["model"]]
    number = int(one) + int(other) + (0 if right else 1 + dice // 10 % 7)
    return chat(f"I add the two numbers. Answer: {number}")(exchange)


def prepare(folder: Path, url: str, prompts: int) -> None:
    priced = "".join(
        f'[models."own:{name}"]\ninput_dollars_per_million = {price}\noutput_dollars_per_million = {price}\n'
        for name, price in PRICE.items()
    )
    provider = f'[providers.own]\napi = "openai"\nbase_url = "{url}/v1"\nconcurrency = 8\n'
    (folder / "partsong.toml").write_text(provider + priced)
    lines = [json.dumps({"prompt": f"What is {n} plus {n + 3}?", "answer": str(2 * n + 3)}) for n in range(prompts)]
    (folder / "sums.jsonl").write_text("\n".join(lines))


async def start(folder: Path, *more: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PARTSONG_STATE": str(folder / "state")}
    command = ("-m", "partsong", "tune", "sums.jsonl", "--models", "own:wise,own:dull", "--out", "found", *more)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=folder, env=environment, stdout=pipe, stderr=pipe
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines; a torn last line is left out."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


async def killed_after(process: asyncio.subprocess.Process, outputs: Path, count: int) -> int:
    """Kill the process once so many answers are in its folder; how many there are then."""
    while len(lines(outputs)) < count:
        assert process.returncode is None, await ended(process)
        await asyncio.sleep(0.05)
    process.kill()
    await process.wait()
    return len(lines(outputs))


async def test_a_search_that_is_killed_goes_on_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    async with Server(answering) as server:
        prepare(tmp_path, server.url, 60)
        outputs = tmp_path / "found" / "outputs.jsonl"
        seen: list[Counter[bytes]] = []
        for count in (40, 330, 445):  # in the pool, in the race, and on the held-out part
            process = await start(tmp_path, "--max-dollars", "100")
            await killed_after(process, outputs, count)
            seen.append(Counter(exchange.body for exchange in server.exchanges))
        code, out, err = await ended(await start(tmp_path, "--max-dollars", "100"))
        assert code == 0, err
        # Four runs are under way at the same time. Only their open calls may be made again after each kill.
        asked = Counter(exchange.body for exchange in server.exchanges)
        assert sum(count - 1 for count in asked.values()) <= 3 * 8
        assert max(asked.values()) <= 4
        before = len(server.exchanges)
        assert await ended(await start(tmp_path, "--max-dollars", "100")) == (0, out, "")
        assert len(server.exchanges) == before  # started again, it asks nobody and says the same
    spent = sum(18 * PRICE[exchange.json["model"]] for exchange in server.exchanges) / 1e6
    money: dict[int, float] = {}
    for line in lines(tmp_path / "found" / "money.jsonl"):
        money[line["number"]] = float(line.get("spent", line.get("held", 0)))
    assert sum(money.values()) >= spent * 0.999  # what was under way at a kill counts with its most
    assert_written(tmp_path / "found", out)
    stages = json.loads((tmp_path / "found" / "stages.json").read_text())
    assert [*stages] == ["pool", "race 1", "race 2", "race 3", "held out"]
    (use,) = lines(tmp_path / "state" / "held-out.jsonl")
    assert use["digest"] in (tmp_path / "found" / "best.toml").read_text()


def assert_written(folder: Path, out: str) -> None:
    """The result is said, and stands in the files: the recipe can be run, and all numbers are there."""
    assert "24 prompts to choose on and 36 held out" in out
    assert out.index("held-out prompts can") < out.index("pool") < out.index("Tested on 36 held-out prompts")
    result, choice = (json.loads((folder / f"{name}.json").read_text()) for name in ("result", "choice"))
    assert read(folder / "best.toml").name == result["use"]
    evidence = [line for line in (folder / "best.toml").read_text().splitlines() if line.startswith("#")]
    for what in ("date: ", "held out", "sha256 ", "difference: ", "n = 36", "cost: "):
        assert any(what in line for line in evidence), what
    report = (folder / "report.md").read_text()
    assert choice["finalist"] in report
    assert "exploratory" in report
    with (folder / "recipes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["front by price"] == "yes" for row in rows) >= 1
    with (folder / "held-out.csv").open() as file:
        held = list(csv.DictReader(file))
    mean = sum(float(row[choice["finalist"]]) - float(row[choice["baseline"]]) for row in held) / len(held)
    assert mean == pytest.approx(result["test"]["mean"])
    with (folder / "pool.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 24 * 2 * 6
    assert (folder / "front-price.svg").is_file()


@pytest.mark.parametrize("cap", ["0.02", "0.1", "0.3"])
async def test_a_search_never_costs_more_than_its_cap(tmp_path: Path, cap: str) -> None:
    async with Server(answering) as server:
        prepare(tmp_path, server.url, 20)
        code, out, err = await ended(await start(tmp_path, "--max-dollars", cap))
        spent = sum(18 * PRICE[exchange.json["model"]] for exchange in server.exchanges) / 1e6
    assert spent <= float(cap)
    if code == 0:
        assert "use " in out or "is better than" in out
    else:
        assert "stopped: " in err or "the pool alone typically costs" in err


async def test_only_what_is_new_is_paid_in_the_race(tmp_path: Path) -> None:
    async with Server(answering) as server:
        prepare(tmp_path, server.url, 20)
        code, _, err = await ended(await start(tmp_path))
        assert code == 0, err
    samples = {line["id"]: line["turns"][0] for line in lines(tmp_path / "found" / "samples.jsonl")}
    outputs = lines(tmp_path / "found" / "outputs.jsonl")
    first_part = {samples[line["sample"]] for line in outputs if line.get("attempt")}  # only the pool asks repeatedly
    assert len(first_part) == 8
    raced = [line for line in outputs if line.get("proposals") and samples[line["sample"]] in first_part]
    assert len({line["contestant"] for line in raced}) >= 4
    plain = [exchange.json["messages"] for exchange in server.exchanges if len(exchange.json["messages"]) == 1]
    # A first layer sends the prompt alone. On the first part that happened for the pool, and never again in the race.
    assert sum(messages[0]["content"] in first_part for messages in plain) == 8 * 2 * 6


BAD = [
    (['"One?"'] * 3, ("--models", "scripted:a,scripted:b"), "so a model must judge: name it with --judge"),
    ([], ("--models", "scripted:a,scripted:b"), "has no prompt; it needs one a line"),
    (['{"prompt": "x", "answer": "1"}', "{"], ("--models", "scripted:a,scripted:b"), "bad.jsonl, line 2: "),
    (['{"answer": "1"}'], ("--models", "scripted:a,scripted:b"), "line 1: has no prompt"),
    (["sums"], ("--models", "scripted:a"), "a search needs at least two models"),
    (["sums"], ("--models", "scripted:a,"), "a search needs at least two models"),
    (["sums"], ("--models", "scripted:a,scripted:a"), "scripted:a is named twice"),
    (["sums"], ("--models", ",".join(f"scripted:m{n}" for n in range(21))), "names 21 models, but a search takes at"),
    (["sums"], ("--models", "scripted:a,scripted:b", "--limit", "19"), "19 different prompts, but a search needs at"),
    (["sums"], ("--models", "scripted:a,scripted:b", "--answers", "1"), "--answers is 1, but must be from 2 to 15"),
    (["sums"], ("--models", "scripted:a,nobody:b"), 'there is no provider "nobody"'),
    (["sums"], ("--models", "scripted:a,own:b", "--max-dollars", "100"), "the price of own:b is unknown"),
    (
        ["sums"],
        ("--models", "scripted:a?output=9,scripted:b", "--max-dollars", "0.0001"),
        "the pool alone typically costs",
    ),
    (
        ['"Why?"', *[f'"Why {n}?"' for n in range(30)]],
        ("--models", "scripted:a,scripted:b", "--judge", "scripted:a2"),
        "--judge scripted:a2: is of the family of scripted:a, and judges favour their own family",
    ),
]


@pytest.mark.parametrize(("prompts", "more", "said"), BAD)
def test_what_cannot_be_searched_is_said_before_anything_is_paid(
    prompts: Sequence[str],
    more: Sequence[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, "http://127.0.0.1:9", 25)
    name = "sums.jsonl"
    if prompts != ["sums"]:
        name = "bad.jsonl"
        Path(name).write_text("\n".join(prompts))
    assert code_of("tune", name, *more) == 2
    assert said in capfd.readouterr().err
    assert not Path("tune").exists()


def test_a_dry_run_says_what_can_be_seen_and_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, "http://127.0.0.1:9", 500)
    assert code_of("tune", "sums.jsonl", "--models", "own:wise,own:dull", "--dry-run", "--max-dollars", "1") == 0
    out = capfd.readouterr().out
    assert "200 prompts to choose on and 300 held out" in out
    assert "can show 5 points at 10 %, 6 points at 15 % or 7 points at 20 % discordance" in out
    assert "306, 463 or 620 held-out prompts are needed" in out
    assert re.search(r"pool +2,400 ", out)  # 200 prompts, two models, 5 answers and one at temperature 0
    assert "typically pays for about" in out
    assert not Path("tune").exists()
    assert not uses_path().exists()


def test_prompts_without_right_answers_are_graded_by_a_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    Path("whys.jsonl").write_text("".join(f'"Why is {n} a number?"\n' for n in range(30)))
    models = "scripted:anna?text=Because.&output=5,scripted:ben?text=Hm.&output=5"
    arguments = ("tune", "whys.jsonl", "--models", models, "--answers", "2", "--judge")
    assert code_of(*arguments, "scripted:judge?text=Grade: 7&output=1") == 0
    out = capfd.readouterr().out
    assert "no recipe is shown to be better; use scripted:" in out
    assert "judge scripted:judge" in out
    best = read(Path("tune/whys/best.toml"))
    assert best.name.startswith("scripted:")
    assert best.layers == ()
    assert code_of("ask", "--recipe", "tune/whys/best.toml", "Why?") == 0
    assert capfd.readouterr().out.strip() in ("Because.", "Hm.")
    assert code_of(*arguments, "scripted:sphinx?text=No.", "--out", "silent") == 1
    err = capfd.readouterr().err
    assert "no verdict 10 times in a row" in err
    assert "“No.”" in err


def test_grades_of_a_function_must_be_from_0_to_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, "http://127.0.0.1:9", 25)
    Path("mine.py").write_text("def grade(prompt, answer, references):\n    return 7.0\n")
    arguments = ("tune", "sums.jsonl", "--models", "scripted:anna,scripted:ben", "--grade", "mine:grade")
    assert code_of(*arguments) == 2
    assert "the grade is 7.0, but a search needs grades from 0 to 1" in capfd.readouterr().err
    assert len(lines(Path("tune/sums/outputs.jsonl"))) <= 4  # it does not pay for a pool that it cannot use


def test_uses_of_a_held_out_part_are_counted_across_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    assert earlier_uses("d", "one") == []
    count_use(Use("d", "one", "2026-11-26"))
    count_use(Use("d", "one", "2026-11-27"))  # the same search, started again
    assert (earlier_uses("d", "one"), len(earlier_uses("d", "two"))) == ([], 1)
    with uses_path().open("ab") as file:
        file.write(b'{"digest":"d","sear')  # a process died
    count_use(Use("d", "two", "2026-11-27"))
    count_use(Use("e", "three", "2026-11-27"))
    assert [each.search for each in earlier_uses("d", "four")] == ["one", "two"]
    assert [each.search for each in earlier_uses("d", "two")] == ["one"]
    assert earlier_uses("d", "one") == []  # later uses change nothing in what an earlier search has said


@pytest.mark.parametrize("recipe", list(shipped()), ids=lambda recipe: recipe.name)
def test_a_recipe_is_the_same_after_it_was_written(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "again.toml"
    path.write_text(recipe_toml(recipe, ["two\nlines", 'and "quotes" # here']))
    assert read(path) == recipe


def test_a_single_model_is_written_too(tmp_path: Path) -> None:
    told = 'Say "x",\n\\ and\ttabs \x7f.'
    recipe = Recipe("one", (), Aggregator("scripted:a", system=told, temperature=1e-05))
    found = tomllib.loads(recipe_toml(recipe))
    alone = {"model": "scripted:a", "system": told, "temperature": 1e-05}
    assert found == {"name": "one", "layers": [], "aggregator": alone}
    (tmp_path / "one.toml").write_text(recipe_toml(recipe, ["evidence"]))
    assert read(tmp_path / "one.toml") == recipe


def test_extra_fields_are_written_with_any_name(tmp_path: Path) -> None:
    extra = {"plugins": [{"id": "web", "max results": 3}], "a.b": {"c d": True, "": 1.5, 'q"': "\x7f"}}
    recipe = Recipe("one", (Layer((Agent("openai:b", extra=extra),)),), Aggregator("openai:a", extra={"top_k": 4}))
    (tmp_path / "one.toml").write_text(recipe_toml(recipe))
    assert read(tmp_path / "one.toml") == recipe
