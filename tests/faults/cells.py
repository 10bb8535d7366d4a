"""A cell of the matrix: one fault at one place of a mixture. Here it is performed, through `assemble` as users do."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import partsong
from partsong import Agent, Aggregator, Configuration, Layer, Recipe, Transcript, asking
from partsong.configuration import Provider
from partsong.engine import perform
from partsong.events import AnyEvent, ProposalFailed
from tests.clock import JumpingLoop
from tests.faults.misbehaving import Call, Stage
from tests.upstream import Server

DEADLINE = 60.0  # seconds, of which the aggregator keeps 40 %
LISTEN = 0.002  # real seconds without a byte, after which time jumps
AT_ONCE = 100  # cells
Address = tuple[int, int]


@dataclass(frozen=True)
class Place:
    """How many seats each layer has, which of the recipe's addresses are faulty, and which layers comment."""

    layers: tuple[int, ...]
    faulty: frozenset[Address]
    comments: frozenset[int] = frozenset()

    @property
    def aggregator(self) -> Address:
        return len(self.layers), 0

    def found_by(self, asked: int) -> set[int]:
        """The layers whose proposals and comments the layer with this index finds."""
        found: set[int] = set()
        for layer in range(asked):
            found = {*found, layer} if layer in self.comments else {layer}
        return found

    @property
    def addresses(self) -> list[Address]:
        return [(layer, seat) for layer, seats in enumerate((*self.layers, 1)) for seat in range(seats)]


@dataclass(frozen=True)
class Cell:
    """`patient`: the providers have no limits for the first token and for silence, so that deadlines must do."""

    fault: str
    place: str
    where: Place
    watch: bool = True
    api: Literal["openai", "anthropic"] = "openai"
    patient: bool = False

    @property
    def name(self) -> str:
        how = ("watched" if self.watch else "plain", "patient" if self.patient else "limited", self.api)
        return f"{self.fault}-{self.place}-{'-'.join(how)}"

    def model(self, address: Address, number: int) -> str:
        """The model's name: how it behaves, in which cell, where it sits."""
        behaviour = self.fault if address in self.where.faulty else "well"
        return f"{behaviour}.c{number}.{address[0]}.{address[1]}"


@dataclass
class Performed:
    """What happened: events with their times, requests as the server saw them, and when the run began and ended."""

    models: dict[Address, str]
    calls: list[Call]
    transcript: Transcript = field(default_factory=Transcript)
    events: list[AnyEvent] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    started: float = 0.0
    ended: float = 0.0

    def calls_of(self, address: Address) -> list[Call]:
        return [call for call in self.calls if call.name == self.models[address]]

    def failed_at(self, address: Address) -> float:
        """When the seat was said to be lost; for the aggregator, when the run was."""
        for event, at in zip(self.events, self.times, strict=True):
            if isinstance(event, ProposalFailed) and (event.layer, event.seat) == address:
                return at
        return self.ended


def providers(addresses: Mapping[str, str], api: Any = "openai", **limits: Any) -> dict[str, Provider]:
    """A provider for each name, at its address. What one of them does is no other's fault."""
    return {name: Provider(api, base_url=f"{url}/v1", **limits) for name, url in addresses.items()}


def listen(performed: Performed) -> Any:
    """A listener that writes down what is said, and when."""
    clock = asyncio.get_running_loop().time

    async def emit(event: AnyEvent) -> None:
        performed.events.append(event)
        performed.times.append(clock())
        performed.transcript.hear(event)

    return emit


async def perform_cell(cell: Cell, number: int, server: Server, stage: Stage) -> Performed:
    place, clock = cell.where, asyncio.get_running_loop().time
    names = {address: cell.model(address, number) for address in place.addresses}
    ids = {address: f"p{address[0]}{address[1]}:{name}" for address, name in names.items()}
    layers = tuple(
        Layer(tuple(Agent(ids[layer, seat]) for seat in range(seats)), comments=layer in place.comments)
        for layer, seats in enumerate(place.layers)
    )
    recipe = Recipe(cell.name, layers, Aggregator(ids[place.aggregator]), deadline=DEADLINE)
    limits = {} if cell.patient else {"first_token": 10.0, "silence": 5.0}
    known = providers({name.partition(":")[0]: server.url for name in ids.values()}, cell.api, **limits)
    performed = Performed(names, stage.calls[f"c{number}"])
    async with partsong.assemble(recipe.models, Configuration(providers=known)) as models:
        performed.started = clock()
        await perform(recipe, asking("Why?"), models, listen(performed), watch=cell.watch)
        performed.ended = clock()
    return performed


def perform_all(cells: list[Cell]) -> dict[str, Performed | BaseException]:
    """Perform the cells, many at once, and see that nothing is left running when all of them have ended."""
    with asyncio.Runner(loop_factory=lambda: JumpingLoop(LISTEN)) as runner:
        return runner.run(_all(cells))


async def _all(cells: list[Cell]) -> dict[str, Performed | BaseException]:
    stage, gate = Stage(), asyncio.Semaphore(AT_ONCE)
    async with Server(stage) as server:

        async def one(cell: Cell, number: int) -> Performed:
            async with gate:
                return await perform_cell(cell, number, server, stage)

        done = await asyncio.gather(*(one(cell, number) for number, cell in enumerate(cells)), return_exceptions=True)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"the runs left tasks running: {', '.join(str(task.get_coro()) for task in left)}"
    return {cell.name: outcome for cell, outcome in zip(cells, done, strict=True)}
