"""The report on the usage and the losses of one run, which a response has in its field `partsong`."""

from typing import Any

import msgspec

from partsong.events import (
    AnyEvent,
    CallFinished,
    Failure,
    Loss,
    ProposalStarted,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolUsed,
    VotesCounted,
)
from partsong.model import NOTHING_USED, Answer, Usage
from partsong.sources import sources_of


class Report:
    """A listener for the events of one run.

    started: whether the run has begun
    answer: the answer of a run that has finished, else `None`
    error: the reason of a run that has failed, else `None`
    usage: tokens and dollars of all calls of the run
    losses: number of losses
    again: id of the earlier run whose proposals were found; "" for none
    kept: whether the store keeps the run, as far as it should
    votes: the counts of layers whose statements were counted
    calls: the calls whose usage is known. Their usages, and the dollars of tool calls, add up to `usage`.
    uses: the tool calls
    """

    def __init__(self, run: str, recipe: str) -> None:
        self.run, self.recipe = run, recipe
        self.started = False
        self.again = ""
        self.answer: Answer | None = None
        self.error: Failure | None = None
        self.usage: Usage = NOTHING_USED
        self.losses = 0
        self.kept = True
        self.votes: list[VotesCounted] = []
        self.calls: list[tuple[CallFinished, Usage]] = []
        self.uses: list[ToolUsed] = []
        self._layers = 0
        self._saw: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}  # where a seat did not see all
        self._end: RunFinished | RunFailed | None = None

    def hear(self, event: AnyEvent) -> None:
        """Add one event of the run. Deltas may be left out."""
        match event:
            case RunStarted(again=again, recipe=recipe):
                self.started, self.again, self._layers = True, again, len(recipe.layers)
            case ProposalStarted(layer=layer, seat=seat, saw=saw) if saw is not None:
                self._saw[layer, seat] = saw
            case CallFinished(usage=Usage() as usage):
                self.calls.append((event, usage))
            case ToolUsed():
                self.uses.append(event)
            case VotesCounted():
                self.votes.append(event)
            case RunFinished(answer=answer, usage=usage, losses=losses):
                self.answer, self.usage, self.losses, self._end = answer, usage, len(losses), event
            case RunFailed(error=error, usage=usage, losses=losses):
                self.error, self.usage, self.losses, self._end = error, usage, len(losses), event

    @property
    def lost(self) -> tuple[Loss, ...]:
        """The losses of a run that has ended."""
        return () if self._end is None else self._end.losses

    def plain(self) -> dict[str, Any]:
        """The report as plain values for JSON: the calls, the losses and the total dollars."""
        plain: dict[str, Any] = {"run": self.run, "recipe": self.recipe}
        if self.again:
            plain["again"] = self.again
        if not self.kept:
            plain["kept"] = False
        if (end := self._end) is not None:
            plain |= {
                "dollars": _in_text(self.usage),
                "planned": end.planned,
                "answered": end.answered,
                "losses": msgspec.to_builtins(end.losses),
            }
            if isinstance(end, RunFinished):
                plain |= {"model": end.model, "last_resort": end.last_resort, "seat": end.seat, "layer": end.layer}
            plain |= {"spared": end.spared, "votes": [plain_count(count) for count in self.votes]}
        calls = [_plain_call(call, usage, self._saw.get((call.layer, call.seat))) for call, usage in self.calls]
        if self.uses:
            plain["tools"] = [_plain_use(use) for use in self.uses]
            plain["sources"] = [
                {"number": number, "address": source.address, "seats": [list(seat) for seat in source.seats]}
                for number, source in enumerate(sources_of(self.uses, self._layers), 1)
            ]
        return plain | {"calls": calls}


def plain_count(count: VotesCounted) -> dict[str, Any]:
    """Who voted for what, as plain values for JSON."""
    return {
        "layer": count.layer,
        "rule": count.rule,
        "needed": count.needed,
        "seat": count.seat,
        "groups": msgspec.to_builtins(count.groups),
        "abstained": list(count.abstained),
    }


def _plain_call(call: CallFinished, usage: Usage, saw: tuple[tuple[int, int], ...] | None) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "layer": call.layer,
        "seat": call.seat,
        "model": call.model,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "dollars": _in_text(usage),
    }
    if saw is not None:
        plain["saw"] = saw
    if call.stored:
        plain["stored"] = True
    if call.error is not None:
        plain["error"] = call.error.cause
    return plain


def _plain_use(use: ToolUsed) -> dict[str, Any]:
    plain: dict[str, Any] = {"layer": use.layer, "seat": use.seat, "server": use.server, "tool": use.tool}
    if use.dollars:
        plain["dollars"] = str(use.dollars)
    return plain | ({"error": use.error} if use.error else {"size": use.size})


def _in_text(usage: Usage) -> str | None:
    """The dollars as text, so that no digit is lost in a JSON number; `None` if they are unknown."""
    return None if usage.dollars is None else str(usage.dollars)
