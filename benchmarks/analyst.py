"""How well models find contradictions: 40 questions with a planted contradiction, and 20 without one.

    python benchmarks/analyst.py MODEL… [--out FOLDER] [--limit N] [--max-tokens N] [--config FILE]
    python benchmarks/analyst.py --report [--out FOLDER]

MODEL is any id that partsong knows, such as local:qwen2.5-coder-0.5b or openai:…; other providers stand in
partsong.toml. Each result is written to FOLDER/MODEL.jsonl (by default benchmarks/results/analyst) as soon as it is
there, and the same command goes on after a stop. The questions stand in benchmarks/contradictions.jsonl.

A planted contradiction is *found* if a contradiction of the analysis quotes both places where it was planted, and else
*missed*. Every other contradiction of the analysis is *invented*, in questions with and without a planted one. Entries
that were *left out*, because a quote is not there, count for nothing. An analysis *fails* if it cannot be used.
"""

import argparse
import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from partsong import Agent, Aggregator, Answer, Layer, ModelError, Recipe, Text, asking, assemble, read_configuration
from partsong.analysis import Contradiction
from partsong.configuration import find_configuration
from partsong.engine.analyst import compare
from partsong.engine.performance import Proposal
from partsong.model import Model
from partsong.recipe import Analyst

HERE = Path(__file__).parent
QUESTIONS = HERE / "contradictions.jsonl"
WITHOUT = 3  # every third question is one without a contradiction, so that a part of the run is balanced, too


def questions() -> list[dict[str, Any]]:
    """All questions, those with and those without a planted contradiction mixed two to one."""
    read = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    planted = [each for each in read if each["planted"]]
    without = [each for each in read if not each["planted"]]
    mixed: list[dict[str, Any]] = []
    while planted or without:
        mixed.append((without if without and (len(mixed) % WITHOUT == 2 or not planted) else planted).pop(0))
    return mixed


def touches(contradiction: Contradiction, question: dict[str, Any]) -> bool:
    """Whether a contradiction quotes both places of the planted one."""
    places = set()
    for number, planted in enumerate(question["planted"] or ()):
        start = question["proposals"][planted["proposal"] - 1].index(planted["words"])
        end = start + len(planted["words"])
        for quote in (quote for side in contradiction.positions for quote in side.quotes):
            if quote.seat == planted["proposal"] - 1 and quote.start < end and start < quote.end:
                places.add(number)
    return len(places) == 2


async def ask(question: dict[str, Any], model: str, models: dict[str, Model], max_tokens: int) -> dict[str, Any]:
    """The result of one question."""
    proposals = tuple(
        Proposal(seat, "planted", Answer((Text(text),))) for seat, text in enumerate(question["proposals"])
    )
    layer = Layer(tuple(Agent(model) for _ in proposals))
    recipe = Recipe("analyst", (layer,), Aggregator(model))
    analyst = Analyst(model, temperature=0, max_tokens=max_tokens)
    began = time.monotonic()
    result: dict[str, Any] = {"id": question["id"]}
    try:
        done = await compare(recipe, analyst, asking(question["question"]), proposals, models)
    except ModelError as error:
        result |= {"failed": error.cause, "why": str(error)[:300]}
    else:
        found = [touches(each, question) for each in done.analysis.contradictions]
        result |= {
            "found": any(found),
            "invented": found.count(False),
            "left_out": done.analysis.dropped,
            "entries": done.analysis.quoted,
            "output_tokens": done.usage.output_tokens,
            "analysis": to_builtins(done.analysis),
        }
    return result | {"seconds": round(time.monotonic() - began, 1)}


def file_of(folder: Path, model: str) -> Path:
    return folder / (re.sub(r"[^\w.-]+", "_", model) + ".jsonl")


def results(path: Path) -> list[dict[str, Any]]:
    """The results so far. A last line that was being written when the process ended is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


async def run(model: str, options: argparse.Namespace) -> None:
    path = file_of(options.out, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    done = results(path)
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in done), encoding="utf-8")
    known = {each["id"] for each in done}
    left = [each for each in questions()[: options.limit] if each["id"] not in known]
    configuration = find_configuration() if options.config is None else read_configuration(options.config)
    async with assemble((model,), configuration) as models:
        for number, question in enumerate(left, 1):
            result = await ask(question, model, dict(models), options.max_tokens)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result, ensure_ascii=False) + "\n")
            said = result.get("failed") or ("found" if result["found"] else "-")
            print(f"{model} {number}/{len(left)} {question['id']}: {said}, {result['seconds']} s", flush=True)


def report(folder: Path) -> None:
    """Print a row of a Markdown table for each model."""
    print(
        "| model | questions | found | missed | invented, with / without a planted one | left out | failed | seconds |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for path in sorted(folder.glob("*.jsonl")):
        rows = results(path)
        planted = [row for row in rows if row["id"].startswith("planted")]
        without = [row for row in rows if not row["id"].startswith("planted")]
        found = sum(row.get("found", False) for row in planted)
        invented = [sum(row.get("invented", 0) for row in some) for some in (planted, without)]
        left_out, failed = sum(row.get("left_out", 0) for row in rows), sum("failed" in row for row in rows)
        seconds = sorted(row["seconds"] for row in rows)
        print(
            f"| {path.stem} | {len(planted)} + {len(without)} | {found} | {len(planted) - found} "
            f"| {invented[0]} / {invented[1]} | {left_out} | {failed} | {seconds[len(seconds) // 2] if rows else 0} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "analyst")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--max-tokens", type=int, default=700)
    parser.add_argument("--config", type=Path, default=None)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    for model in options.models:
        asyncio.run(run(model, options))
    if options.report or options.models:
        report(options.out)


if __name__ == "__main__":
    main()
