"""Writes the answer as plain text while it comes, for pipes and files. Losses follow on one line at the end."""

from partsong.cli.losses import LAST_RESORT, short_id, told
from partsong.cli.output import Output
from partsong.events import (
    AggregationDelta,
    AggregationReplaced,
    AggregationStarted,
    AnyEvent,
    LayerFinished,
    LayerStarted,
    ProposalFinished,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import TextDelta


class Plain:
    """Writes the answer to `out`, and the losses to `err`, unless `err` is `None`.

    With `proposals`, the proposals are written before the answer.
    """

    def __init__(self, out: Output[str], err: Output[str] | None, *, proposals: bool = False) -> None:
        self.out, self.err, self.proposals = out, err, proposals
        self.models: tuple[str, ...] = ()
        self.texts: dict[int, tuple[str, str]] = {}  # model and text of the layer's proposals, by seat
        self.layers = 0
        self.aggregator = ""
        self.last = ""  # piece of the answer that was written

    async def hear(self, event: AnyEvent) -> None:
        """Take in one event, and write what it brings."""
        match event:
            case AggregationDelta(delta=TextDelta(text=text)) if text:
                self.write(text)
            case RunStarted(recipe=recipe):
                self.layers = len(recipe.layers) if self.proposals else 0
            case LayerStarted(models=models) if self.proposals:
                self.models, self.texts = models, {}
            case ProposalFinished(seat=seat, answer=answer) if self.proposals:
                self.texts[seat] = event.model or self.models[seat], answer.text
            case LayerFinished(layer=layer) if self.proposals:
                for seat, (model, text) in sorted(self.texts.items()):
                    self.out.write(f"{heading(layer, seat, model)}{text.strip()}\n\n")
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
        if self.layers and not self.last:  # only now is it known who says it
            self.out.write(heading(self.layers, 0, self.aggregator))
        self.out.write(text)
        self.last = text

    def end(self, event: RunFinished | RunFailed) -> None:
        if self.last and not self.last.endswith("\n"):
            self.out.write("\n")
        if self.err is None:
            return
        if isinstance(event, RunFinished) and event.last_resort:
            self.err.write(f"partsong: {LAST_RESORT}, of {short_id(event.model)}\n")
        if event.losses:
            self.err.write(f"partsong: {'; '.join(told(event, messages=True))}\n")


def heading(layer: int, seat: int, model: str) -> str:
    """The heading of a proposal, and of the answer if proposals are shown."""
    return f"## ({layer}, {seat}) {short_id(model)}\n\n"
