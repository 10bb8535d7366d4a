"""`partsong compare`: tests whether a recipe is better than other recipes, and than one model at the same price."""

import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Annotated, Any

from cyclopts import Parameter
from msgspec import to_builtins

from partsong.bench.baselines import baselines, in_dollars, members, price_of, related, singles
from partsong.bench.contestant import Contestant
from partsong.bench.judging import prefer_both_ways
from partsong.bench.runner import Study
from partsong.bench.task import Output, Task, Verdict, dollars_an_answer, pair_of
from partsong.bench.tasks.judged import Preference
from partsong.cli.bench_run import seconds_of
from partsong.cli.loop import complete
from partsong.cli.options import TaskName
from partsong.cli.printable import single_line
from partsong.cli.progress import Progress
from partsong.cli.study import Options, ended, find_task, need_statistics, open_study, progress_of
from partsong.cli.summary import dollars
from partsong.cli.table import print_table
from partsong.errors import InputError
from partsong.recipe import Recipe

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

    async def perform(self) -> None:
        """Make all answers, grades and verdicts: of the recipes and their members, and then of the baselines.

        The baselines come last, because they are made of the best member of each recipe.
        """
        study = self.study
        for mine in self.alone.values():
            study.contestants.update(mine)
        await study.perform(self.options.at_once)
        if not study.task.grades:
            await self.judge([(recipe, member) for recipe, mine in self.alone.items() for member in mine])
        if not study.stopped:
            self.add_baselines()
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
        study.extra += len(wanted)
        study.extra_done += sum(key in self.verdicts for key in wanted)

        async def ask(key: tuple[str, str, str, int]) -> None:
            verdict = await prefer_both_ways(judge, samples[key[2]], *wanted[key])
            study.folder.verdicts.add(verdict)
            if verdict.failed:
                study.failed[f"{key[0]} and {key[1]}", key[2], key[3]] = verdict.failed
            else:
                self.verdicts[key] = verdict
                study.extra_done += 1

        await study.each([key for key in wanted if key not in self.verdicts], ask, self.options.at_once)

    def outputs(self, name: str) -> list[Output]:
        """Return the outputs of one contestant."""
        return [output for key, output in self.study.outputs.items() if key[0] == name]

    def between(self, one: str, other: str) -> list[Verdict]:
        """Return the verdicts about the contestants `one` and `other`, in this order."""
        return [each for each in self.verdicts.values() if (each.one, each.other) == (one, other)]

    async def report(self) -> None:
        """Print the table of contestants, the differences and the diagnoses, and write them to the study's folder."""
        from partsong.bench.comparison import Difference, difference, preference, values_of
        from partsong.bench.diagnosis import diagnose, order_bias
        from partsong.bench.study_report import write_report

        study = self.study
        print_contestants(study)
        grades, differences, lines = list(study.grades.values()), list[Difference](), list[str]()
        for one, other in self.pairs:
            if study.task.grades:
                found = difference(one, other, values_of(grades, one), values_of(grades, other), study.seed)
            else:
                said = self.between(one, other)
                missing = len(study.samples) * study.attempts - len(said)
                found = preference(one, other, said, missing, study.seed)
            if found is None:
                lines.append(f"nothing to say of {one} and {other}: no prompt was graded for both")
                continue
            differences.append(found)
            missing_words = f"; {found.missing:,} left out, for want of a grade" if found.missing else ""
            lines.append(found.words() + missing_words)
        diagnoses = {}
        for name in self.recipes:
            own = [grade for grade in grades if grade.contestant == name]
            if (diagnosis := await diagnose(study.task, study.samples, self.outputs(name), own)) is not None:
                diagnoses[name] = diagnosis
                lines.append(f"{name}: {diagnosis.words()}")
        bias = order_bias(self.verdicts.values())
        if bias is not None:
            lines.append(bias.words())
        if self.best:
            lines.append("the best member was chosen on these same prompts, which favours it a little")
        if study.judge is not None and (own_kind := related(study.judge.id, self.recipes.values())):
            lines.append(f"take care: the judge {study.judge.id} is of the family of {', '.join(own_kind)}")
        for line in lines:
            print(single_line(line, sys.stdout.encoding))
        result: dict[str, Any] = {
            "differences": differences,
            "best_members": self.best,
            "diagnoses": diagnoses,
            "order": bias,
        }
        study.folder.remember("comparison", to_builtins(result))
        write_report(study, f"{study.task.name}: {', '.join(self.recipes)} compared", lines)


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
