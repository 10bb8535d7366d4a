"""`partsong bench score`: stored judgments scored again, without asking anybody."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from partsong.cli.table import print_table
from partsong.errors import ConfigurationError, InputError


def score(
    task: Annotated[Literal["alpaca_eval", "mt_bench"], Parameter(help="What was judged.")],
    place: Annotated[Path, Parameter(metavar="FOLDER|FILE", help="Where the judgments are.")],
    /,
    *,
    c: Annotated[
        float | None,
        Parameter(
            name="--c", metavar="C", help="alpaca_eval: fit at this C, instead of choosing it by cross-validation."
        ),
    ] = None,
    weights: Annotated[
        Path | None, Parameter(metavar="FILE", help="alpaca_eval: fitted weights as published, instead of fitting.")
    ] = None,
    upstream_row_order: Annotated[
        bool, Parameter(help="alpaca_eval: join difficulties by row, as the official code does; for comparison alone.")
    ] = False,
    json: Annotated[bool, Parameter(help="Print everything as one JSON document.")] = False,
) -> int:
    """Score stored judgments."""
    try:
        import numpy as np  # noqa: F401
        import pyarrow as pa  # noqa: F401
    except ImportError:
        raise ConfigurationError("bench needs the extra `bench`: pip install 'partsong[bench]'") from None
    if task == "mt_bench":
        if c is not None or weights is not None or upstream_row_order:
            raise InputError("--c, --weights and --upstream-row-order are for alpaca_eval")
        return _mt_bench(place, json)
    return _alpaca_eval(place, c, weights, upstream_row_order, json)


def _alpaca_eval(place: Path, c: float | None, weights: Path | None, upstream_row_order: bool, json: bool) -> int:
    from partsong.bench.scoring.alpaca_eval import NOTE, score_folder

    if c is not None and not 0 < c < float("inf"):
        raise InputError(f"--c is {c}, but must be above 0")
    scores = score_folder(place, c=c, weights=weights, upstream_row_order=upstream_row_order)
    if json:
        sys.stdout.buffer.write(msgspec.json.encode({"models": scores, "note": NOTE}) + b"\n")
        return 0
    scores.sort(key=lambda score: -score.length_controlled_winrate)
    rows = [
        (
            score.model,
            f"{score.n:,}",
            f"{score.win_rate:.2f} ± {score.standard_error:.2f}",
            f"{score.discrete_win_rate:.2f}",
            f"{score.length_controlled_winrate:.2f} ± {score.lc_standard_error:.2f}",
        )
        for score in scores
    ]
    print_table(("model", "judged", "win rate %", "discrete %", "length-controlled %"), rows)
    print(f"\n± is one standard error. {NOTE}")
    return 0


def _mt_bench(place: Path, json: bool) -> int:
    from partsong.bench.scoring.mt_bench import score_file

    scores = score_file(place)
    if json:
        sys.stdout.buffer.write(msgspec.json.encode({"models": scores}) + b"\n")
        return 0

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    rows = [
        (
            each.model,
            f"{each.n:,}",
            f"{each.unreadable:,}",
            number(each.turns[0]),
            number(each.turns[1]),
            number(each.mean),
        )
        for each in scores
    ]
    print_table(("model", "judged", "unreadable", "turn 1", "turn 2", "mean"), rows)
    return 0
