"""`partsong bench score`: computes scores from stored judgments, without calling any model."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from partsong.cli.json_output import print_json
from partsong.cli.table import print_table
from partsong.errors import ConfigurationError, InputError


def score(
    task: Annotated[
        Literal["alpaca_eval", "mt_bench", "flask", "arena_hard"],
        Parameter(help="Benchmark that the judgments belong to."),
    ],
    place: Annotated[Path, Parameter(metavar="FOLDER|FILE", help="File or folder with the judgments.")],
    /,
    *,
    c: Annotated[
        float | None,
        Parameter(
            name="--c",
            metavar="C",
            help="alpaca_eval: inverse penalty of the fit. Default: chosen by cross-validation.",
        ),
    ] = None,
    weights: Annotated[
        Path | None, Parameter(metavar="FILE", help="alpaca_eval: published weights, used instead of a fit.")
    ] = None,
    upstream_row_order: Annotated[
        bool,
        Parameter(help="alpaca_eval: join difficulties by row, as the official code does. Only to compare with it."),
    ] = False,
    json: Annotated[bool, Parameter(help="Print the scores as one JSON document.")] = False,
) -> int:
    """Score stored judgments."""
    try:
        import numpy as np  # noqa: F401
        import pyarrow as pa  # noqa: F401
    except ImportError:
        raise ConfigurationError("bench needs the extra `bench`: pip install 'partsong[bench]'") from None
    if task == "alpaca_eval":
        return _alpaca_eval(place, c, weights, upstream_row_order, json)
    if c is not None or weights is not None or upstream_row_order:
        raise InputError("--c, --weights and --upstream-row-order are for alpaca_eval")
    return {"mt_bench": _mt_bench, "flask": _flask, "arena_hard": _arena_hard}[task](place, json)


def _alpaca_eval(place: Path, c: float | None, weights: Path | None, upstream_row_order: bool, json: bool) -> int:
    from partsong.bench.scoring.alpaca_eval import NOTE, score_folder

    if c is not None and not 0 < c < float("inf"):
        raise InputError(f"--c is {c}, but must be above 0")
    scores = score_folder(place, c=c, weights=weights, upstream_row_order=upstream_row_order)
    if json:
        print_json({"models": scores, "note": NOTE})
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
        print_json({"models": scores})
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


def _flask(place: Path, json: bool) -> int:
    from partsong.bench.scoring.flask import score_file
    from partsong.bench.tasks.flask import SKILLS

    scores = score_file(place)
    if json:
        print_json({"models": scores})
        return 0
    rows = [
        (skill, *(f"{each.skills[skill]:.2f}" if skill in each.skills else "–" for each in scores)) for skill in SKILLS
    ]
    rows.append(("reviews", *(f"{each.n:,}" for each in scores)))
    rows.append(("unreadable", *(f"{each.unreadable:,}" for each in scores)))
    print_table(("skill", *(each.model for each in scores)), rows)
    return 0


def _arena_hard(place: Path, json: bool) -> int:
    from partsong.bench.scoring.arena_hard import score_folder

    scores = score_folder(place)
    if json:
        print_json({"models": scores})
        return 0
    rows = [
        (
            each.model,
            f"{each.n:,}",
            f"{each.unreadable:,}",
            f"{each.score:.1f} [{each.low:.1f}, {each.high:.1f}]",
            "–" if each.style_controlled is None else f"{each.style_controlled:.1f}",
        )
        for each in sorted(scores, key=lambda each: -each.score)
    ]
    print_table(("model", "judged", "unreadable", "score %", "style-controlled %"), rows)
    return 0
