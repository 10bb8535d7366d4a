"""Who wins how often in a judged study: the win rate of each contestant, a matrix of pairs, and one sentence.

A duel is a comparison of the answers of two contestants to one prompt: 1 for a win, 0.5 for a tie, 0 for a loss. Duels
come from the verdicts of a judge that saw both answers, or from two grades of the same prompt.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from partsong.bench.comparison import Attempt, Difference
from partsong.bench.statistics.intervals import Interval, score_interval
from partsong.bench.task import Verdict

Duels = Mapping[tuple[str, str], Mapping[Attempt, float]]  # by both contestants: value for the first one, by attempt


def duels_of_verdicts(verdicts: Iterable[Verdict]) -> Duels:
    """Return the duels that a judge has decided. The value of a verdict is the mean of both orders of the answers."""
    duels: dict[tuple[str, str], dict[Attempt, float]] = {}
    for each in verdicts:
        duels.setdefault((each.one, each.other), {})[each.sample, each.attempt] = each.value
    return duels


def duels_of_grades(values: Mapping[str, Mapping[Attempt, float]]) -> Duels:
    """Return the duels between all contestants, in which the higher grade wins. `values`: grades by contestant."""
    names = list(values)
    return {
        (one, other): {
            attempt: 0.5 + 0.5 * ((grade > values[other][attempt]) - (grade < values[other][attempt]))
            for attempt, grade in values[one].items()
            if attempt in values[other]
        }
        for index, one in enumerate(names)
        for other in names[index + 1 :]
    }


def win_rates(duels: Duels) -> dict[str, Interval]:
    """Return the share of its duels that each contestant has won, a tie being half a win, with its 95 % interval.

    Each prompt weighs the same, whatever the number of opponents and attempts. The score interval takes each prompt for
    a plain win or loss, so that it is a little too wide if there are ties. Contestants without duels are left out.
    """
    by_prompt: dict[str, dict[str, list[float]]] = {}
    for (one, other), values in duels.items():
        for (sample, _), value in values.items():
            by_prompt.setdefault(one, {}).setdefault(sample, []).append(value)
            by_prompt.setdefault(other, {}).setdefault(sample, []).append(1 - value)
    return {
        name: score_interval(fmean(fmean(values) for values in prompts.values()), len(prompts))
        for name, prompts in by_prompt.items()
    }


def matrix(names: Sequence[str], duels: Duels) -> list[list[str]]:
    """Return the table of all pairs as text: in the row of a contestant, how often it wins against each column.

    The first cell of a row is the contestant's name. A pair that was not compared has "–".
    """
    share = {pair: fmean(values.values()) for pair, values in duels.items() if values}
    both = share | {(other, one): 1 - value for (one, other), value in share.items()}
    return [
        [one, *(f"{both[one, other]:.1%}" if (one, other) in both else "–" for other in names)]
        for one in names
        if any(one in pair for pair in share)
    ]


def headline(differences: Sequence[Difference], rates: Mapping[str, Interval]) -> str:
    """Return the result of a study as one sentence.

    differences: all comparisons of two contestants
    rates: win rates by contestant, from `win_rates`

    A contestant is called best only if the interval of each of its comparisons excludes zero.
    """
    if not differences or not rates:
        return "no two contestants could be compared"
    opponents: dict[str, list[bool]] = {}
    for each in differences:
        for name in (each.one, each.other):
            opponents.setdefault(name, []).append(each.better == name)
    best = [name for name, beaten in opponents.items() if all(beaten)]
    if best:
        name = max(best, key=lambda each: (len(opponents[each]), rates[each].mean if each in rates else 0.0))
        rivals = [
            each.other if each.one == name else each.one for each in differences if name in (each.one, each.other)
        ]
        whom = rivals[0] if len(rivals) == 1 else f"each of the {len(rivals)} others that it was compared with"
        won = f": it wins {as_percent(rates[name])} on {rates[name].n:,} prompts" if name in rates else ""
        return f"{name} is better than {whom}{won}"
    name = max(rates, key=lambda each: rates[each].mean)
    return (
        f"no contestant is shown to be better than all others; {name} wins most often, "
        f"{as_percent(rates[name])} on {rates[name].n:,} prompts"
    )


def as_percent(interval: Interval) -> str:
    """Return a share with its interval as text, such as "61.5 % [50.1, 71.8]"."""
    return f"{interval.mean:.1%} [{interval.low * 100:.1f}, {interval.high * 100:.1f}]".replace("%", " %", 1)
