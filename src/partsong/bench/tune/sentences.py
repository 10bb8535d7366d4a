"""The sentences of a search: which difference can be seen, what was found, and how far it can be trusted."""

from collections.abc import Sequence

from partsong.bench.statistics.detectable import DISCORDANCES, prompts_needed, smallest_difference
from partsong.bench.tune.search import Result
from partsong.bench.tune.splitting import Split

SHOWN = 0.05  # difference for which the needed prompts are told


def detectable(parts: Split) -> list[str]:
    """Return what the held-out part can show, with a power of 80 %, before anything is paid."""
    held = len(parts.held)
    seen = [(share, smallest_difference(held, share)) for share in DISCORDANCES]
    needed = [f"{prompts_needed(SHOWN, share):,}" for share in DISCORDANCES]
    told = [
        f"{difference * 100:.0f} points at {share * 100:.0f} %" for share, difference in seen if difference is not None
    ]
    if told:
        what = f"can show {join(told)} discordance, the share of prompts on which exactly one of two recipes is right"
    else:
        every = (place / 100 for place in range(1, 101))
        least = next(found for share in every if (found := smallest_difference(held, share)) is not None)
        what = f"can hardly show anything: {least * 100:.0f} points, if one recipe is right wherever two disagree"
    shares = join([f"{share * 100:.0f}" for share in DISCORDANCES])
    can = f"The {held:,} held-out prompts {what}; 80 % power, two-sided test at 5 %."
    return [
        can,
        f"To show {SHOWN * 100:.0f} points at {shares} % discordance, {join(needed)} held-out prompts are needed.",
    ]


def sentence(result: Result) -> str:
    """Return the result as one sentence."""
    test = result.test
    if test is None or not test.better:
        return f"no recipe is shown to be better; use {result.baseline}"
    return f"{result.use} is better than {result.baseline} by {points(result)} at {cost(result)}"


def points(result: Result) -> str:
    """Return the tested difference with its interval in points, such as "8.3 points [2.1, 14.2]"."""
    assert result.test is not None
    test = result.test
    return f"{test.mean * 100:.1f} points [{test.low * 100:.1f}, {test.high * 100:.1f}]"


def cost(result: Result) -> str:
    """Return the cost of the finalist as a multiple of the baseline's."""
    return "a cost that cannot be compared" if result.times is None else f"{result.times:.2g} × its cost"


def cautions(result: Result, finalist: str) -> list[str]:
    """Return what a reader must know of the result: the test, left-out prompts, and earlier uses of the prompts.

    finalist: name of the recipe that was tested; empty if none was
    """
    test = result.test
    if test is None:
        return ["No recipe gained anything on the prompts to choose on, so the held-out prompts were not asked."]
    tested = (
        f"Tested on {test.n:,} held-out prompts: {finalist} against {result.baseline}, {points(result)}, better on "
        f"{test.above:,} and worse on {test.below:,}, p = {test.chance:.3g} ({test.how})."
    )
    said = [tested]
    if result.missing:
        said.append(f"{result.missing:,} held-out prompts were left out, because the judge gave no verdict.")
    if result.earlier:
        times = "once" if result.earlier == 1 else f"{result.earlier:,} times"
        said.append(
            f"Take care: this held-out part has been used {times} before. Whoever searches often enough finds "
            "something: the 5 % hold for one search."
        )
    else:
        said.append("This held-out part has not been used before.")
    return said


def join(words: Sequence[str]) -> str:
    """Return words as an enumeration with "or"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
