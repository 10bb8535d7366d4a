"""Prints what a study would ask and cost. No model is called, no key is needed, and no file is written."""

import sys
from collections.abc import Mapping, Sequence

from partsong.assembly import info_without_model
from partsong.bench.contestant import Contestant
from partsong.bench.estimate import Estimate, Lengths, of_contestant, of_judge, total_of
from partsong.bench.task import Sample, Task
from partsong.cli.cost import cells, usual_tokens
from partsong.cli.printable import printable, single_line
from partsong.cli.study import Options
from partsong.cli.summary import dollars
from partsong.cli.table import print_table
from partsong.configuration import find_configuration
from partsong.model_info import ModelInfo
from partsong.money.planning import lines_for
from partsong.money.typical import is_priced

Pair = tuple[str, str]


class Forecast:
    """The estimates of a study.

    parts: estimates so far, a part for each contestant and for the judge
    lengths: length of an answer, by contestant
    unknown: ids of the models whose price is unknown
    """

    def __init__(self, task: Task, samples: Sequence[Sample], options: Options, info: Mapping[str, ModelInfo]) -> None:
        self.task, self.samples, self.options, self.info = task, samples, options, info
        self.usual: Mapping[str, int] = {}
        self.parts: list[Estimate] = []
        self.lengths: dict[str, Lengths] = {}

    async def contestants(self, contestants: Mapping[str, Contestant]) -> None:
        """Estimate the answers of these contestants."""
        judge = [self.options.judge] if self.options.judge else []
        models = [model for each in contestants.values() for model in each.recipe.models]
        self.usual = await usual_tokens(tuple(dict.fromkeys([*models, *judge])))
        for name, each in contestants.items():
            part, self.lengths[name] = of_contestant(
                name, each, self.samples, self.options.attempts, self.info, self.usual
            )
            self.parts.append(part)

    def baselines(self, name: str, count: int) -> None:
        """Estimate the baselines of the recipe `name`, of which each costs about as much as the recipe."""
        part = next(each for each in self.parts if each.what == name)
        for _ in range(count):
            self.parts.append(Estimate(f"a baseline at the price of {name}", part.calls, part.typical, part.most))

    def judge(self, read: Sequence[Sequence[Lengths]]) -> None:
        """Estimate the judge's calls. `read`: for each verdict about a sample, the lengths of the answers it reads."""
        judge = self.options.judge
        assert judge is not None
        parts = [
            of_judge(self.task, self.samples, self.options.attempts, answers, judge, self.info[judge], self.usual)
            for answers in read
        ]
        if parts:
            whole = total_of(parts)
            self.parts.append(Estimate(parts[0].what, whole.calls, whole.typical, whole.most))

    def show(self) -> None:
        """Print a table of all parts, and how far the cap in dollars reaches."""
        whole = total_of(self.parts)
        rows = [
            (each.what, f"{each.calls:,}", *cells(each.typical), *cells(each.most)) for each in (*self.parts, whole)
        ]
        print_table(("", "calls", "typically: in", "out", "dollars", "at most: in", "out", "dollars"), rows)
        print(
            single_line(
                f"{len(self.samples):,} prompts of {self.task.name}; nothing was asked. Answers that the store has "
                "cost nothing.",
                sys.stdout.encoding,
            )
        )
        cap = self.options.max_dollars
        if cap is not None and whole.typical.dollars is not None and whole.most.dollars is not None:
            if cap >= whole.most.dollars:
                said = "pays for everything"
            elif cap >= whole.typical.dollars:
                said = "is typically enough"
            else:
                said = f"typically ends the study after about {cap / whole.typical.dollars:.0%} of it"
            print(f"--max-dollars {dollars(cap)} {said}.")
        if unknown := [name for name, each in self.info.items() if not is_priced(each)]:
            told = f"\nThe price of {', '.join(unknown)} is unknown. In partsong.toml, say what a million tokens cost:"
            print(printable(told + "".join(map(lines_for, unknown)), sys.stdout.encoding))


def forecast(task: Task, options: Options, contestants: Mapping[str, Contestant]) -> Forecast:
    """Return an empty forecast for these contestants. Raises `ConfigurationError` for an unknown provider."""
    configuration = find_configuration(options.config)
    judge = [options.judge] if options.judge else []
    models = dict.fromkeys([*(model for each in contestants.values() for model in each.recipe.models), *judge])
    info = {name: info_without_model(name, configuration) for name in models}
    return Forecast(task, options.drawn(task.samples), options, info)
