"""`partsong compare`: tests whether a recipe is better than other recipes, and than one model at the same price."""

import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from msgspec import to_builtins

from partsong.bench.baselines import baselines, baselines_of, in_dollars, members, price_of, singles
from partsong.bench.contestant import Contestant
from partsong.bench.judging import prefer_both_ways
from partsong.bench.runner import Study
from partsong.bench.task import Grade, Output, Task, Verdict, dollars_an_answer, pair_of
from partsong.bench.tasks.judged import Preference
from partsong.cli.bench_run import counted, seconds_of
from partsong.cli.dry_run import forecast
from partsong.cli.loop import complete
from partsong.cli.options import TaskName
from partsong.cli.printable import single_line
from partsong.cli.progress import Progress
from partsong.cli.standings import Standings
from partsong.cli.study import Options, ended, find_task, judge_notes, need_statistics, open_study, progress_of
from partsong.cli.summary import dollars
from partsong.cli.table import print_table
from partsong.errors import InputError
from partsong.recipe import Recipe

if TYPE_CHECKING:
    from partsong.bench.comparison import Difference

Pair = tuple[str, str]


def compare(
    task: TaskName,
    /,
    *,
    options: Options,
    baseline: Annotated[
        bool,
        Parameter(
            name="--baselines",
            negative="--no-baselines",
            help="Compare also with what one model does for the same money. Default: yes.",
        ),
    ] = True,
) -> int:
    """Compare recipes on a task, and say which one is better if the difference is sure."""
    options.check()
    need_statistics()
    chosen = find_task(task, options.grade, options.data)
    if isinstance(chosen, Preference):
        # Answers are compared with the answers of other contestants, and not with a reference.
        chosen = Preference(chosen.name, chosen.samples, grades=False)
    if chosen.needs_judge and options.judge is None:
        raise InputError(f"{task}: a model must judge: name it with --judge")
    recipes = options.recipes()
    if len(recipes) < 2 and not (baseline and any(each.layers for each in recipes.values())):
        raise InputError("two recipes are needed, or a mixture to hold against its baselines")
    if options.dry_run:
        return complete(estimated(chosen, options, recipes, baseline))
    return complete(compared(chosen, options, recipes, baseline))


async def compared(task: Task, options: Options, recipes: Mapping[str, Recipe], baseline: bool) -> int:
    """Run the comparison and print its result; return the exit code.

    recipes: recipes to compare, by name
    baseline: whether baselines are compared too (see `partsong.bench.baselines`)

    Raises `InputError` if a recipe has the name of a baseline.
    """
    contestants = {name: Contestant(recipe) for name, recipe in recipes.items()}
    alone = singles(recipes.values()) if baseline else {}
    for name in {name for mine in alone.values() for name in mine} & contestants.keys():
        raise InputError(f"the recipe {name} has the name of a baseline; give it another")
    async with open_study(task, options, contestants, baselines=baseline) as study:
        comparison = Comparison(study, options, recipes, alone)
        with Progress(lambda: progress_of(study)):
            await comparison.perform()
    await comparison.report()
    return ended(study)


async def estimated(task: Task, options: Options, recipes: Mapping[str, Recipe], baseline: bool) -> int:
    """Print what the comparison would cost, with all members, baselines and verdicts; return the exit code."""
    alone = singles(recipes.values()) if baseline else {}
    contestants = {name: Contestant(recipe) for name, recipe in recipes.items()}
    for mine in alone.values():
        contestants |= mine
    found = forecast(task, options, contestants)
    await found.contestants(contestants)
    counts = {name: baselines_of(recipes[name]) for name, mine in alone.items() if mine}
    for name, count in counts.items():
        found.baselines(name, count)
    length = found.lengths
    if task.needs_judge and task.grades:
        found.judge([(length[name],) for name in contestants])
        found.judge([(length[name],) for name, count in counts.items() for _ in range(count)])
    elif task.needs_judge:
        pairs = [*combinations(recipes, 2), *((recipe, member) for recipe, mine in alone.items() for member in mine)]
        pairs += [(name, name) for name, count in counts.items() for _ in range(count)]
        found.judge([(length[one], length[other]) for one, other in pairs])
    found.show()
    return 0


def verdict_pairs(recipes: Mapping[str, Recipe], alone: Mapping[str, Mapping[str, Contestant]]) -> int:
    """Return the number of pairs that a judge compares: recipes, each recipe with its members, and with baselines."""
    own = sum(len(mine) + baselines_of(recipes[name]) for name, mine in alone.items() if mine)
    return len(recipes) * (len(recipes) - 1) // 2 + own


class Comparison:
    """A study whose contestants are compared in pairs.

    recipes: recipes by name
    alone: by recipe, its members as contestants that answer alone, by name
    verdicts: verdicts of the judge so far, by the key of `pair_of`
    pairs: names of the contestants to compare; recipes with each other, and each recipe with its baselines
    best: name of the best member, by recipe
    """

    def __init__(
        self,
        study: Study,
        options: Options,
        recipes: Mapping[str, Recipe],
        alone: Mapping[str, Mapping[str, Contestant]],
    ) -> None:
        self.study, self.options, self.recipes, self.alone = study, options, recipes, alone
        self.verdicts = {pair_of(each): each for each in study.folder.verdicts.all if not each.failed}
        names = list(recipes)
        self.pairs: list[Pair] = list(combinations(names, 2))
        self.best: dict[str, str] = {}
        for mine in alone.values():
            study.contestants.update(mine)
        self.plan()

    def plan(self) -> None:
        """Count the answers and verdicts that come later, so that the progress knows the total from the start."""
        study, each = self.study, len(self.study.samples) * self.study.attempts
        study.later = each * sum(
            baselines_of(recipe) for recipe in self.recipes.values() if self.alone.get(recipe.name)
        )
        if not study.task.grades:
            study.extra = each * verdict_pairs(self.recipes, self.alone)
            study.extra_done = len(self.verdicts)

    async def perform(self) -> None:
        """Make all answers, grades and verdicts: of the recipes and their members, and then of the baselines.

        The baselines come last, because they are made of the best member of each recipe.
        """
        study = self.study
        await study.perform(self.options.at_once)
        if not study.task.grades:
            await self.judge([(recipe, member) for recipe, mine in self.alone.items() for member in mine])
        if not study.stopped:
            self.add_baselines()
            study.later = 0
            if not study.task.grades:
                members = {(recipe, member) for recipe, mine in self.alone.items() for member in mine}
                study.extra = len({*self.pairs, *members}) * len(study.samples) * study.attempts
            await study.perform(self.options.at_once)
        if not study.task.grades:
            await self.judge(self.pairs)

    def add_baselines(self) -> None:
        """Choose the best member of each recipe, and add the recipe's baselines to contestants and pairs.

        Choices that an earlier start made are read from the study's folder. A recipe without answers is left out.
        """
        study = self.study
        decided: dict[str, str] = study.folder.remembered("baselines") or {}
        for name, mine in self.alone.items():
            outputs = {each: self.outputs(each) for each in (name, *mine)}
            if not mine or not all(outputs.values()):
                continue
            best = decided.get(name) or max(mine, key=lambda member: self.worth(name, member))
            decided[name] = self.best[name] = best
            money = in_dollars(output for each in outputs.values() for output in each)
            by_model = {
                contestant.recipe.aggregator.model: price_of(outputs[each], money) for each, contestant in mine.items()
            }
            model = mine[best].recipe.aggregator.model
            votes = not study.task.needs_judge and all(sample.reference for sample in study.samples)
            price = price_of(outputs[name], money)
            more = baselines(self.recipes[name], members(self.recipes[name])[model], price, by_model, votes)
            self.pairs.append((name, best))
            for each, contestant in more.items():
                there = study.contestants.get(each, contestant)
                # Two recipes may have the same model as a member, with different settings.
                self.add(name, each if there == contestant else f"{each}, for {name}", contestant)
        study.folder.remember("baselines", decided)

    def add(self, recipe: str, name: str, baseline: Contestant) -> None:
        """Add a baseline to the contestants under this name, and the pair of recipe and baseline to the pairs."""
        self.study.contestants[name] = baseline
        self.pairs.append((recipe, name))

    def worth(self, recipe: str, member: str) -> float:
        """Return how good a member is alone: its mean grade, or its share of the verdicts against the recipe.

        The result is minus infinity if the member has no grade or verdict.
        """
        if self.study.task.grades:
            values = [each.value for key, each in self.study.grades.items() if key[0] == member]
        else:
            values = [1 - each.value for each in self.verdicts.values() if (each.one, each.other) == (recipe, member)]
        return fmean(values) if values else float("-inf")

    async def judge(self, pairs: Sequence[Pair]) -> None:
        """Let the judge compare the answers of each pair of contestants, unless a verdict exists from earlier."""
        study = self.study
        assert study.judge is not None
        judge, samples = study.judge, {sample.id: sample for sample in study.samples}
        wanted = {
            (one, other, sample, attempt): (output, study.outputs[other, sample, attempt])
            for one, other in pairs
            for (name, sample, attempt), output in study.outputs.items()
            if name == one and (other, sample, attempt) in study.outputs
        }

        async def ask(key: tuple[str, str, str, int]) -> None:
            verdict = await prefer_both_ways(judge, samples[key[2]], *wanted[key])
            study.folder.verdicts.add(verdict)
            study.heard(verdict.failed, verdict.judged)
            if verdict.failed:
                study.failed[f"{key[0]} and {key[1]}", key[2], key[3]] = verdict.failed
            else:
                self.verdicts[key] = verdict
                study.extra_done = len(self.verdicts)

        await study.each([key for key in wanted if key not in self.verdicts], ask, self.options.at_once)

    def outputs(self, name: str) -> list[Output]:
        """Return the outputs of one contestant."""
        return [output for key, output in self.study.outputs.items() if key[0] == name]

    def between(self, one: str, other: str) -> list[Verdict]:
        """Return the verdicts about the contestants `one` and `other`, in this order."""
        return [each for each in self.verdicts.values() if (each.one, each.other) == (one, other)]

    def differences(self) -> "tuple[list[Difference], list[str]]":
        """Return the comparisons of all pairs, and each as a line of text. A pair without a grade has a line only."""
        from partsong.bench.comparison import difference, preference, values_of

        study, lines = self.study, list[str]()
        found: list[Difference] = []
        grades = list(study.grades.values())
        for one, other in self.pairs:
            if study.task.grades:
                each = difference(one, other, values_of(grades, one), values_of(grades, other), study.seed)
            else:
                said = self.between(one, other)
                missing = len(study.samples) * study.attempts - len(said)
                each = preference(one, other, said, missing, study.seed)
            if each is None:
                lines.append(f"nothing to say of {one} and {other}: no prompt was graded for both")
                continue
            found.append(each)
            missing_words = f"; {each.missing:,} left out, for want of a grade" if each.missing else ""
            lines.append(each.words() + missing_words)
        return found, lines

    def standings(self, differences: "Sequence[Difference]") -> Standings | None:
        """Return win rates and matrix if a judge has graded or compared the answers; else `None`."""
        from partsong.bench.comparison import values_of
        from partsong.bench.wins import duels_of_grades, duels_of_verdicts

        study = self.study
        if study.judge is None:
            return None
        if not study.task.grades:
            return Standings(study, duels_of_verdicts(self.verdicts.values()), differences)
        values = {name: values_of(study.grades.values(), name) for name in study.contestants}
        return Standings(study, duels_of_grades(values), differences)

    async def report(self) -> None:
        """Print the table of contestants, the differences and the diagnoses, and write them to the study's folder."""
        from partsong.bench.diagnosis import diagnose, order_bias
        from partsong.bench.study_report import facts, write_report

        study = self.study
        print_contestants(study)
        differences, lines = self.differences()
        if (standings := self.standings(differences)) is not None:
            standings.show()
        diagnoses = {}
        for name in self.recipes:
            own = [grade for grade in study.grades.values() if grade.contestant == name]
            if (diagnosis := await diagnose(study.task, study.samples, self.outputs(name), own)) is not None:
                diagnoses[name] = diagnosis
                lines.append(f"{name}: {diagnosis.words()}")
        verdicts: list[Verdict | Grade] = [*self.verdicts.values(), *study.grades.values()]
        lines += counted(study)
        lines += judge_notes(study, verdicts)
        if self.best:
            lines.append("the best member was chosen on these same prompts, which favours it a little")
        for line in lines:
            print(single_line(line, sys.stdout.encoding))
        result: dict[str, Any] = {
            "headline": None if standings is None else standings.headline,
            "win_rates": None if standings is None else standings.rates,
            "differences": differences,
            "best_members": self.best,
            "diagnoses": diagnoses,
            "order": order_bias(verdicts),
            "facts": dict(facts(study)),
        }
        study.folder.remember("comparison", to_builtins(result))
        title = f"{study.task.name}: {', '.join(self.recipes)} compared"
        more, first = ((), "") if standings is None else (standings.sections, standings.headline)
        write_report(study, title, lines, more=more, first=first)


def print_contestants(study: Study) -> None:
    """Print a table of the contestants with the means of an answer: grade, dollars, seconds, tokens and words."""
    from partsong.bench.comparison import quality, values_of

    rows = []
    for name, contestant in study.contestants.items():
        outputs = [output for key, output in study.outputs.items() if key[0] == name]
        values = values_of(study.grades.values(), name)
        value = "-"
        if values:
            mean = quality(values, study.task.scale)
            value = f"{mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
        count = len(outputs)
        each = dollars(dollars_an_answer(outputs))
        tokens = sum(output.usage.input_tokens + output.usage.output_tokens for output in outputs) / max(count, 1)
        words = sum(len(output.answers[-1].split()) for output in outputs) / max(count, 1)
        calls = f"{contestant.calls:,}"
        rows.append(
            (name, value, f"{count:,}", calls, each, seconds_of(study, name), f"{tokens:,.0f}", f"{words:,.0f}")
        )
    headings = ("an answer of", "value", "n", "calls", "dollars", "seconds", "tokens", "words")
    print_table(headings, rows)
    print()
