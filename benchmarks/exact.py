"""The study of docs/results/exact.md: a pool of samples of one model, and recipes, on questions with exact answers.

    python benchmarks/exact.py questions SOURCE.jsonl QUESTIONS.jsonl [LIMIT]
    python benchmarks/exact.py pool PROVIDER:MODEL QUESTIONS.jsonl POOL.jsonl [SAMPLES] [TEMPERATURE] [AT_ONCE]
    python benchmarks/exact.py report FOLDER [FIGURES]

`questions` adds the request for a form of the final answer to each question of a file of GSM8K or BIG-Bench Hard, and
leaves out all but the first LIMIT questions of each task.

`pool` asks the model for SAMPLES answers (12) to each question at TEMPERATURE (0.7), at most AT_ONCE (64) at the same
time. Each answer is a line of the pool, which is flushed at once. A pool that was stopped goes on where it ended.

Recipes are asked with `partsong bench run QUESTIONS.jsonl --recipe …`; those of the study are in benchmarks/exact/.

`report` prints every table of the page from a folder of such files, and draws its figures into the folder FIGURES. The
names of the files are in benchmarks/exact_report.py.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from exact_report import report

from partsong.assembly import assemble
from partsong.errors import ModelError
from partsong.model import Message, Model, Request, Sampling, Text

FORM = "\n\nThink step by step. End with a line of the form: The answer is X."
MAX_TOKENS = 512


def questions(source: Path, target: Path, limit: int) -> None:
    """Write the first `limit` questions of each task of `source`, with the request for a form of the answer."""
    counts: dict[str, int] = {}
    lines = []
    for number, line in enumerate(source.read_text().splitlines()):
        row = json.loads(line)
        task = row.get("task", "gsm8k")
        counts[task] = counts.get(task, 0) + 1
        if counts[task] > limit:
            continue
        identity = row.get("id", f"{source.stem}-{number}")
        lines.append({"id": identity, "prompt": row["question"] + FORM, "reference": row["answer"], "task": task})
    target.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


async def pool(name: str, source: Path, target: Path, samples: int, temperature: float, at_once: int) -> None:
    """Ask the model for the answers that the pool does not have yet."""
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    have = set()
    if target.exists():
        for line in target.read_text().splitlines():
            kept = json.loads(line)
            have.add((kept["sample"], kept["attempt"]))
    missing = iter([(row, n) for n in range(samples) for row in rows if (row["id"], n) not in have])
    began = time.monotonic()
    async with assemble([name]) as models:
        with target.open("a") as file:

            async def work() -> None:
                for row, attempt in missing:
                    line = await asked(models[name], row, attempt, temperature)
                    file.write(f"{json.dumps(line)}\n")
                    file.flush()

            await asyncio.gather(*(work() for _ in range(at_once)))
    print(f"{target}: complete after {time.monotonic() - began:,.0f} s")


async def asked(model: Model, row: dict[str, Any], attempt: int, temperature: float) -> dict[str, Any]:
    """Return one answer of the model as a line of the pool; a call that fails is kept with its error."""
    sampling = Sampling(temperature=temperature, max_tokens=MAX_TOKENS, seed=attempt)
    request = Request((Message("user", (Text(row["prompt"]),)),), sampling=sampling, sample=attempt)
    began = time.monotonic()
    line: dict[str, Any] = {"sample": row["id"], "attempt": attempt}
    try:
        answer = await model(request, None)
    except ModelError as error:
        return {**line, "failed": str(error)}
    return {
        **line,
        "text": answer.text,
        "end": answer.finish_reason,
        "input_tokens": answer.usage.input_tokens,
        "output_tokens": answer.usage.output_tokens,
        "seconds": round(time.monotonic() - began, 3),
    }


def main() -> None:
    match sys.argv[1:]:
        case ["questions", source, target, *rest]:
            questions(Path(source), Path(target), int(rest[0]) if rest else sys.maxsize)
        case ["pool", name, source, target, *rest]:
            samples, temperature, at_once = (rest + ["12", "0.7", "64"][len(rest) :])[:3]
            asyncio.run(pool(name, Path(source), Path(target), int(samples), float(temperature), int(at_once)))
        case ["report", folder, *rest]:
            report(Path(folder), Path(rest[0]) if rest else None)
        case _:
            sys.exit(__doc__)


main()
