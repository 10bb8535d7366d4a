"""A terminal that a test looks at, and the events of a small run to show on it."""

import io
from decimal import Decimal

import pyte
from rich.console import Console

from partsong.cli.region import Region
from partsong.cli.terminal import Terminal
from partsong.events import AnyEvent, CallFinished, Failure, LayerStarted, ProposalStarted, RunStarted
from partsong.model import Answer, Text, Usage, asking
from partsong.recipe import Agent, Aggregator, Layer, Recipe


class Watched:
    """A terminal, what a run says, and what stands on the screen then."""

    def __init__(self, columns: int = 80, rows: int = 24, *, proposals: bool = False, quiet: bool = False) -> None:
        self.file = io.StringIO()
        console = Console(
            file=self.file, force_terminal=True, width=columns, height=rows, color_system="standard", highlight=False
        )
        self.now = 100.0
        self.region = Region(console)
        self.terminal = Terminal(self.region, proposals=proposals, quiet=quiet, clock=lambda: self.now)
        self.screen = pyte.HistoryScreen(columns, rows, history=100_000, ratio=1.0)
        self.screen.set_mode(pyte.modes.LNM)
        self.stream = pyte.Stream(self.screen)

    async def hear(self, *events: AnyEvent) -> None:
        for event in events:
            await self.terminal.hear(event)

    def draw(self, *, last: bool = False) -> list[str]:
        """Draw a frame; the lines of the scrollback and the screen after it."""
        finished, live = self.terminal.frame()
        self.region.draw(finished, () if last else live)
        self.stream.feed(self.file.getvalue())
        self.file.seek(0)
        self.file.truncate()
        above = ["".join(line[column].data for column in sorted(line)) for line in self.screen.history.top]
        lines = [line.rstrip() for line in (*above, *self.screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines


def recipe(*models: str, layers: int = 1) -> Recipe:
    layer = Layer(tuple(Agent(model) for model in models))
    return Recipe("duet", (layer,) * layers, Aggregator("test:last"), about="Two voices")


def answer(text: str, tokens: int = 10, dollars: str | None = None) -> Answer:
    return Answer((Text(text),), usage=Usage(5, tokens, dollars=None if dollars is None else Decimal(dollars)))


def called(
    layer: int, seat: int, model: str, usage: Usage | None = None, error: Failure | None = None, *, stored: bool = False
) -> CallFinished:
    """The end of a call."""
    return CallFinished(layer, seat, model, 0.0, 1.0, usage, error, stored)


def started(*models: str) -> tuple[AnyEvent, ...]:
    return (
        RunStarted(recipe(*models), asking("Why?")),
        LayerStarted(0, models),
        *(ProposalStarted(0, seat, model) for seat, model in enumerate(models)),
    )
