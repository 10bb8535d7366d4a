"""Writes the answer as plain text while the aggregator writes, for pipes and files. The losses follow on one line."""

from partsong.cli.findings import findings
from partsong.cli.losses import LAST_RESORT, short_id, told
from partsong.cli.output import Output
from partsong.cli.read import sources
from partsong.events import (
    AggregationDelta,
    AggregationReplaced,
    AggregationStarted,
    AnalysisFinished,
    AnyEvent,
    LayerFinished,
    LayerStarted,
    ProposalFinished,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolUsed,
    VotesCounted,
)
from partsong.model import TextDelta
from partsong.recipe import ANALYST_SEAT


class Plain:
    """A listener that writes the answer of a run as plain text.

    out: output for the answer
    err: output for the losses; `None` if losses are not written
    proposals: whether the proposals are written before the answer; false by default
    """

    def __init__(self, out: Output[str], err: Output[str] | None, *, proposals: bool = False) -> None:
        self.out, self.err, self.proposals = out, err, proposals
        self.models: tuple[str, ...] = ()
        self.texts: dict[int, tuple[str, str]] = {}  # model and text of the layer's proposals, by seat
        self.compared = 0  # index of the layer that an analyst compares
        self.layers = 0  # number of layers before the aggregator; 0 if the answer needs no heading
        self.aggregator = ""
        self.elected: VotesCounted | None = None  # the count that gave the answer
        self.uses: list[ToolUsed] = []
        self.depth = 0  # number of layers
        self.last = ""  # last piece of the answer that was written

    async def hear(self, event: AnyEvent) -> None:
        """Hear one event, and write the text that the event adds to the output."""
        match event:
            case AggregationDelta(delta=TextDelta(text=text)) if text:
                self.write(text)
            case RunStarted(recipe=recipe):
                self.depth = len(recipe.layers)
                self.layers = self.depth if self.proposals else 0
                self.compared = recipe.last_proposers or 0
            case LayerStarted(models=models) if self.proposals:
                self.models, self.texts = models, {}
            case ProposalFinished(seat=seat, answer=answer) if self.proposals:
                self.texts[seat] = event.model or self.models[seat], answer.text
            case LayerFinished(layer=layer) if self.proposals:
                for seat, (model, text) in sorted(self.texts.items()):
                    self.out.write(f"{heading(layer, seat, model)}{text.strip()}\n\n")
            case AnalysisFinished(analysis=analysis, model=model) if self.layers:
                text = findings(analysis, self.compared)
                self.out.write(f"{heading(self.layers, ANALYST_SEAT, model)}{text}\n\n")
            case ToolUsed():
                self.uses.append(event)
            case VotesCounted(seat=int()):
                self.elected = event
            case AggregationStarted(model=model) | AggregationReplaced(model=model):
                self.aggregator = model
            case RunFinished(answer=answer, model=model):
                if not self.last:  # nothing was streamed
                    self.aggregator = model or self.aggregator
                    self.write(answer.text)
                self.end(event)
            case RunFailed(text=text):
                if not self.last and text:
                    self.write(text)
                self.end(event)

    def write(self, text: str) -> None:
        """Write a piece of the answer, with a heading before the first piece if proposals are shown."""
        if self.layers and not self.last:  # the heading names the model, which may be replaced until the first words
            if (count := self.elected) is not None and count.seat is not None:
                model = self.texts[count.seat][0] if count.seat in self.texts else ""
                self.out.write(f"## elected: {heading(count.layer, count.seat, model).removeprefix('## ')}")
            else:
                self.out.write(heading(self.layers, 0, self.aggregator))
        self.out.write(text)
        self.last = text

    def end(self, event: RunFinished | RunFailed) -> None:
        """End the last line of the answer, and write the losses."""
        if self.last and not self.last.endswith("\n"):
            self.out.write("\n")
        if self.err is None:
            return
        if isinstance(event, RunFinished) and event.last_resort:
            self.err.write(f"partsong: {LAST_RESORT}, of {short_id(event.model)}\n")
        for line in sources(self.uses, self.depth):
            self.err.write(f"partsong: {line}\n")
        if event.losses:
            self.err.write(f"partsong: {'; '.join(told(event, messages=True))}\n")


def heading(layer: int, seat: int, model: str) -> str:
    """Return the heading above a proposal, or above the answer if proposals are shown."""
    return f"## ({layer}, {seat}) {short_id(model)}\n\n"
