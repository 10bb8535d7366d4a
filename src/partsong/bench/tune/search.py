"""Performs a search with calls to models: the pool, the race, the choice, and the test on the held-out part.

Every stage is a set of answers in the folder of one study, so that a search that was stopped or killed goes on where it
was. A stage that is complete is written down with its failures, which count as wrong and are not tried again: later
stages depend on them. The choice is written down before the first held-out prompt is asked.
"""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from statistics import fmean
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from partsong.bench.baselines import WRITTEN
from partsong.bench.contestant import Contestant
from partsong.bench.runner import Key, Study
from partsong.bench.statistics.paired import Tested, paired_test
from partsong.bench.task import Output, Sample, conversation_of
from partsong.bench.tune.candidates import TEMPERATURE, member_recipe, racers_of, recipe_of
from partsong.bench.tune.choosing import Choice, best_of, choose
from partsong.bench.tune.halving import rungs, survivors
from partsong.bench.tune.methods import Measured, Method, measure, methods_of
from partsong.bench.tune.pool import ABSTAINS, Drawn, Member, Orders, Read, pooled
from partsong.bench.tune.replay import Replayed
from partsong.bench.tune.splitting import Split, shuffled
from partsong.bench.tune.uses import Use, count_use, earlier_uses
from partsong.errors import InputError
from partsong.model import Answer, Model, Text
from partsong.recipe import Recipe

COLD = " at temperature 0"
RESERVED = 1.25  # times the expected price of the test that the race must leave, since prices of answers vary


class Result(Struct, frozen=True):
    """The result of a search.

    use: name of the recipe to use
    baseline: name of the recipe that it was tested against, or that is used; the same as `use` without a test
    test: the test on the held-out part; `None` if nothing was gained on the first part, so that nothing was tested
    missing: number of held-out prompts without a verdict of the judge for both recipes
    times: cost of the finalist divided by that of the baseline, on the held-out part; `None` if unknown
    earlier: number of earlier searches that have asked this held-out part
    """

    use: str
    baseline: str
    test: Tested | None = None
    missing: int = 0
    times: float | None = None
    earlier: int = 0


def members_of(models: Sequence[str], answers: int) -> dict[str, tuple[Contestant, int]]:
    """Return the members of the pool as contestants, each with its number of answers to a prompt, by name.

    Each model answers `answers` times at the temperature of samples, and once at temperature 0.
    """
    found: dict[str, tuple[Contestant, int]] = {}
    for model in models:
        found[model] = Contestant(member_recipe(model, model, TEMPERATURE)), answers
        name = model + COLD
        found[name] = Contestant(member_recipe(name, model, 0.0)), 1
    return found


def planned_runs(parts: Split, models: Sequence[str], answers: int, *, votes: bool) -> int:
    """Return the number of runs of a search: answers of the pool, runs of the race, and both runs of the test."""
    pool = len(parts.choose) * sum(count for _, count in members_of(models, answers).values())
    racers, before, race = len(racers_of(unmeasured(models, answers), votes=votes)), 0, 0
    for end in rungs(len(parts.choose), racers):
        race += racers * (end - before)
        before, racers = end, max(2, -(-racers // 2))
    return pool + race + 2 * len(parts.held)


def unmeasured(models: Sequence[str], answers: int) -> list[Member]:
    """Return the members that will vote, without answers: they say which recipes will race."""
    labels = np.full((1, answers), ABSTAINS, dtype=np.int64)
    nothing = np.zeros((1, answers))
    return [Member(model, model, TEMPERATURE, labels, nothing, nothing, nothing) for model in models]


class Search:
    """A search under way.

    study: makes, grades and keeps the answers
    parts: the two parts of the prompts
    models: ids of the models
    answers: number of answers of each model to each prompt of the first part
    read: says what an answer states
    votes: whether answers state something that can be counted

    members, methods, racers, measured: empty until their stage is complete
    stage: what is done now, for the progress
    """

    def __init__(
        self, study: Study, parts: Split, models: Sequence[str], answers: int, read: Read, *, votes: bool
    ) -> None:
        self.study, self.parts, self.votes, self.read = study, parts, votes, read
        self.pool_of = members_of(models, answers)
        self.members: list[Member] = []
        self.methods: list[Method] = []
        self.racers: list[Recipe] = []
        self.measured: list[Measured] = []
        self.choice: Choice | None = None
        self.stage = "pool"
        self.order = shuffled(parts.choose, study.seed)
        self.samples = {sample.id: sample for sample in (*parts.choose, *parts.held)}
        self.first_part = frozenset(sample.id for sample in parts.choose)
        self.done: dict[str, Any] = study.folder.remembered("stages") or {}
        self.failures = self.failures_so_far()
        self.began, self.made, self.found = time.monotonic(), 0, 0
        self.planned = planned_runs(parts, models, answers, votes=votes)
        study.models_of, study.replayed = self.models_of, self.replayed

    def warnings(self) -> list[str]:
        """Return what must be said before anything is paid: how often other searches have used the held-out part."""
        own = (self.study.folder.remembered("choice") or {}).get("search", "")
        uses = earlier_uses(self.parts.digest, own)
        if not uses:
            return []
        count = "once" if len(uses) == 1 else f"{len(uses):,} times"
        return [f"Take care: this held-out part has been used {count} before, last on {uses[-1].date}."]

    # The stages

    async def perform(self, at_once: int) -> Result | None:
        """Perform all stages that are missing; `None` if the study was stopped, so that there is no result yet."""
        if not await self.complete("pool", self.pool_keys(), at_once):
            return None
        self.work_out()
        if not await self.race(at_once):
            return None
        self.measured += [self.measured_racer(racer) for racer in self.racers]
        self.choice = choose(self.measured, len(self.parts.held))
        return await self.hold_out(at_once)

    async def complete(self, stage: str, keys: Sequence[Key], at_once: int) -> bool:
        """Make all answers of a stage, unless it is complete from earlier. `False` if the study was stopped."""
        self.stage = stage
        if stage in self.done:
            self.found += len(keys)
            return True
        study = self.study
        missing = [key for key in keys if key not in study.grades]
        self.found += len(keys) - len(missing)
        await study.each(missing, self.one, at_once)
        self.failures = self.failures_so_far()
        if study.stopped:
            return False
        self.done[stage] = {"failed": [key for key in keys if key not in study.grades]}
        study.folder.remember("stages", self.done)
        return True

    async def one(self, key: Key) -> None:
        """Make and grade one answer. Raises `InputError` for a grade that is not from 0 to 1."""
        await self.study.one(key, self.samples[key[1]])
        self.value(key)
        self.made += 1

    def failures_so_far(self) -> dict[Key, Output]:
        """Return the failed answers by key: they have cost money, and they count as wrong."""
        return {
            (each.contestant, each.sample, each.attempt): each for each in self.study.folder.outputs.all if each.failed
        }

    @property
    def progress(self) -> tuple[int, int, float | None]:
        """The number of finished and of all planned runs, and the estimated seconds until the end, if known.

        The total is known from the start, unless the money ends the race early.
        """
        done = self.found + self.made
        rest = max(0, self.planned - done)
        each = (time.monotonic() - self.began) / self.made if self.made else None
        return done, max(self.planned, done), None if each is None else each * rest

    def pool_keys(self) -> list[Key]:
        """The answers of the pool. Each prompt has an answer of each model before any prompt has two."""
        self.study.contestants.update({name: contestant for name, (contestant, _) in self.pool_of.items()})
        most = max(count for _, count in self.pool_of.values())
        return [
            (name, sample.id, attempt)
            for attempt in range(most)
            for sample in self.order
            for name, (_, count) in self.pool_of.items()
            if attempt < count
        ]

    def work_out(self) -> None:
        """Work out all methods from the pool, and name the recipes that race."""
        self.stage = "methods"
        prices = self.price_of()
        drawn = {
            name: [[self.drawn((name, sample.id, n), prices) for n in range(count)] for sample in self.order]
            for name, (_, count) in self.pool_of.items()
        }
        settings = {
            name: (each.recipe.aggregator.model, each.recipe.aggregator.temperature)
            for name, (each, _) in self.pool_of.items()
        }
        self.members = pooled(drawn, settings, self.read)
        self.methods = [each for each in methods_of(self.members) if self.votes or each.single]
        orders = Orders(self.members, self.study.seed)
        self.measured = [measure(method, self.members, orders) for method in self.methods]
        best_first = sorted(self.members, key=lambda member: -member.mean)
        self.racers = racers_of(best_first, votes=self.votes)
        self.study.contestants.update({racer.name: Contestant(racer) for racer in self.racers})

    async def race(self, at_once: int) -> bool:
        """Run the recipes on more and more prompts, and the better half of them on all. `False` if stopped."""
        names = [racer.name for racer in self.racers]
        before = 0
        if "short" in self.done:
            return True
        for number, end in enumerate(rungs(len(self.order), len(names))):
            prompts = self.order[before:end]
            keys = [(name, sample.id, 0) for sample in prompts for name in names]
            if not await self.paid(f"race {number + 1}", keys, at_once):
                return "short" in self.done
            before = end
            if end < len(self.order):
                names = survivors(
                    {name: [self.value((name, each.id, 0)) for each in self.order[:end]] for name in names}
                )
        return True

    async def paid(self, stage: str, keys: Sequence[Key], at_once: int) -> bool:
        """Complete a stage of the race, and leave the money that the test will need; `False` if it was not completed.

        If the money ends, the race is over ("short" in the stages), and its open recipes are not chosen.
        """
        study, money = self.study, self.study.folder.money
        cap = money.cap
        if cap is None:
            return await self.complete(stage, keys, at_once)
        money.cap = max(Decimal(0), cap - self.reserve())
        try:
            complete = await self.complete(stage, keys, at_once)
        finally:
            money.cap = cap
        if not complete and study.unaffordable:
            study.stopped, study.unaffordable = "", False
            self.done["short"] = {"failed": []}
            study.folder.remember("stages", self.done)
        return complete

    def reserve(self) -> Decimal:
        """Return the dollars to leave for the test: the price of the dearest recipe so far, for both contestants."""
        if not self.price_of().in_dollars:
            return Decimal(0)
        dearest = max(each.price for each in self.measured)
        return Decimal(str(round(RESERVED * 2 * len(self.parts.held) * dearest, 6)))

    async def hold_out(self, at_once: int) -> Result | None:
        """Ask finalist and baseline on the held-out part, and test them once; `None` if the study was stopped."""
        study, choice = self.study, self.choice
        if choice is None:
            best = best_of(self.measured).name
            study.folder.remember("choice", {"finalist": None, "baseline": best})
            return Result(best, best)
        search = self.decide(choice)
        names = (choice.finalist.name, choice.baseline.name)
        study.contestants.update({name: Contestant(self.recipe(name)) for name in names})
        keys = [(name, sample.id, 0) for sample in shuffled(self.parts.held, study.seed) for name in names]
        if "held out" not in self.done:
            count_use(Use(self.parts.digest, search, f"{datetime.now(UTC):%Y-%m-%d}"))
        if not await self.complete("held out", keys, at_once):
            return None
        return self.tested(names, len(earlier_uses(self.parts.digest, search)))

    def decide(self, choice: Choice) -> str:
        """Write the choice down, and return the id of this search. Raises `InputError` if it was another one."""
        folder = self.study.folder
        names = {"finalist": choice.finalist.name, "baseline": choice.baseline.name}
        there = folder.remembered("choice")
        if there is None:
            there = {**names, "search": secrets.token_hex(8), "gain": choice.gain, "power": choice.power}
            folder.remember("choice", there)
        if {name: there.get(name) for name in names} != names:
            raise InputError(
                f"{folder.path}: another version of partsong chose {there.get('finalist')} here; "
                "name a new folder with --out"
            )
        return str(there["search"])

    def tested(self, names: tuple[str, str], earlier: int) -> Result:
        """Return the result of the one test. A failed answer is wrong; a prompt without a verdict is left out."""
        held = [sample for sample in self.parts.held if all(not self.unjudged((name, sample.id, 0)) for name in names)]
        graded = [[self.value((name, sample.id, 0)) for sample in held] for name in names]
        test = paired_test(*graded, seed=self.study.seed) if held else None
        prices = self.price_of()
        costs = [fmean([prices(self.kept((name, each.id, 0))) for each in held] or [0.0]) for name in names]
        times = costs[0] / costs[1] if costs[1] > 0 else None
        use = names[0] if test is not None and test.better else names[1]
        return Result(use, names[1], test, len(self.parts.held) - len(held), times, earlier)

    # What the stages have made

    def recipe(self, name: str) -> Recipe:
        """Return the recipe with this name."""
        for method in self.methods:
            if method.name == name:
                return recipe_of(method, self.members)
        return next(racer for racer in self.racers if racer.name == name)

    def kept(self, key: Key) -> Output | None:
        """Return the answer with this key, a failed one too; `None` if there is none."""
        if (output := self.study.outputs.get(key)) is not None:
            return output
        return self.failures.get(key)

    def unjudged(self, key: Key) -> bool:
        """Whether there is an answer without a grade, because the judge gave none."""
        return key in self.study.outputs and key not in self.study.grades

    def value(self, key: Key) -> float:
        """Return the grade of an answer from 0 to 1; 0 if it failed or has no grade."""
        grade = self.study.grades.get(key)
        if grade is None:
            return 0.0
        low, high = self.study.task.scale
        value = (grade.value - low) / (high - low) if np.isfinite(high - low) else grade.value
        if not 0 <= value <= 1:
            raise InputError(f"{key[1]}: the grade is {grade.value}, but a search needs grades from 0 to 1")
        return value

    def drawn(self, key: Key, prices: "Price") -> Drawn:
        output = self.kept(key)
        failed = output is None or bool(output.failed)
        seconds = output.seconds if output is not None and output.seconds is not None else float("nan")
        text = "" if output is None or failed else output.answers[-1]
        cut = output is not None and any(loss.kind == "truncated" for loss in output.losses)
        return Drawn(text, self.value(key), prices(output), seconds, failed, cut)

    def price_of(self) -> "Price":
        """Return the function from an answer to its price: in dollars, or in input tokens if dollars say nothing."""
        return Price(self.study.folder.outputs.all)

    def measured_racer(self, racer: Recipe) -> Measured:
        """Return how a recipe of the race has done, with NaN for the prompts on which it did not run."""
        prices = self.price_of()
        keys = [(racer.name, sample.id, 0) for sample in self.order]
        there = np.array([self.kept(key) is not None for key in keys])

        def column(values: Iterable[float]) -> "np.ndarray[Any, np.dtype[np.float64]]":
            return np.where(there, np.array(list(values), dtype=np.float64), np.nan)

        outputs = [self.kept(key) for key in keys]
        known = [np.nan if each is None or each.seconds is None else each.seconds for each in outputs]
        return Measured(
            racer.name,
            column(self.value(key) for key in keys),
            np.zeros(len(keys)),
            column(prices(each) for each in outputs),
            column(known),
            np.full(len(keys), float(racer.calls)),
        )

    def models_of(self, output: Output, sample: Sample) -> Mapping[str, Model]:
        """Return the models of a run. Those of a recipe of the race know the answers of the pool to its prompt."""
        study = self.study
        known = self.known_answers(output, sample)
        messages = conversation_of(sample, output.answers)
        replayed = {
            model: Replayed(
                study.models[model],
                messages,
                [Answer((Text(each.answers[0]),), "stop", each.usage, model) for each in answers],
            )
            for model, answers in known.items()
        }
        return {**study.models, **replayed}

    def replayed(self, output: Output, sample: Sample) -> tuple[int, float]:
        """Return how many answers of the pool a run uses, and the seconds of the longest (0 if they are unknown)."""
        known = [each for answers in self.known_answers(output, sample).values() for each in answers]
        return len(known), max((each.seconds or 0.0 for each in known), default=0.0)

    def known_answers(self, output: Output, sample: Sample) -> dict[str, list[Output]]:
        """Return the answers of the pool for the first layer of a run, by model; empty for a run outside the race."""
        racer = next((racer for racer in self.racers if racer.name == output.contestant), None)
        if racer is None or sample.id not in self.first_part or output.answers or len(sample.turns) > 1:
            return {}
        known = {
            agent.model: [self.kept((agent.model, sample.id, draw)) for draw in range(agent.samples)]
            for agent in racer.layers[0].agents
        }
        return {
            model: [each for each in answers if each is not None and not each.failed]
            for model, answers in known.items()
        }


class Price:
    """The price of an answer: in dollars if some answer cost any and all prices are known, else in input tokens.

    in_dollars: whether the unit is dollars
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        dollars = [each.usage.dollars for each in outputs if not each.failed]
        self.in_dollars = None not in dollars and any(dollars)

    def __call__(self, output: Output | None) -> float:
        if output is None:
            return 0.0
        usage = output.usage
        if self.in_dollars:
            return float(usage.dollars or 0)
        return float(usage.input_tokens + WRITTEN * usage.output_tokens)


def as_plain(result: Result) -> Any:
    """Return the result as plain values, for JSON."""
    return msgspec.to_builtins(result)
