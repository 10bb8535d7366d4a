"""Works out the messages that the seats of a stored run were sent, from the run's events.

A store keeps what models said and not what they were sent, which is the same text again in every seat. The messages
follow from the recipe, the conversation and the proposals by the functions with which the engine made them. What the
events do not say, `Sent.notes` names: a shortened proposal is shown in full, for instance.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from partsong.analysis import LEAST_PROPOSALS, Analysis
from partsong.bounds import DEFAULTS, Bounds
from partsong.briefing import Brief, brief, instructed, prompt, role_of_aggregator, role_of_layer, system_of
from partsong.engine.aggregation import NO_ROOM, analysis_for, as_asked
from partsong.engine.citations import as_list
from partsong.engine.citations import listed as told_sources
from partsong.engine.fitting import DRAFT
from partsong.engine.performance import Proposal, sampling_of
from partsong.engine.proposed_tool_calls import gathered
from partsong.engine.table import Table
from partsong.events import AggregationReplaced, AggregationStarted, AggregationStep, AnyEvent, CallFinished
from partsong.heavy import LIGHT_BYTES, done, is_heavy
from partsong.model import Conversation, Image, Message, Part, Sampling, text_of
from partsong.prompts import documents_of, in_words, proposing, with_documents
from partsong.recipe import ANALYST_SEAT, Analyst, Recipe
from partsong.sources import sources_of
from partsong.transcript import Seat, Transcript
from partsong.wire.tokens import likely_tokens

Address = tuple[int, int]  # index of a layer, and of a seat in it


class Sent(Struct, frozen=True):
    """What one seat was sent.

    layer: index of the layer, or the number of layers for the aggregator and the analyst
    seat: index of the seat in its layer; 0 for the aggregator, 1 for the analyst
    step: for an aggregator that read the proposals in several steps, the number of the step, from 1; else 0. The last
        step has the number 0
    messages: the messages, with documents as text
    sampling: the sampling settings
    tools: names of the tools that could be called
    schema: whether the answer had to fit a schema
    calls: the calls with these messages, those of fallbacks among them
    notes: respects in which the messages may differ from what was sent, each in a sentence
    """

    layer: int
    seat: int
    step: int
    messages: tuple[Message, ...]
    sampling: Sampling
    tools: tuple[str, ...] = ()
    schema: bool = False
    calls: tuple[CallFinished, ...] = ()
    notes: tuple[str, ...] = ()


async def sent_in(
    events: Iterable[AnyEvent], only: Address | None = None, bounds: Bounds = DEFAULTS
) -> tuple[Sent, ...]:
    """What the seats of a run were sent, in the order of the layers, then the analyst and the aggregator.

    events: the events of the run so far
    only: the one seat that is wanted; `None` (default) for all
    bounds: bounds on the tool calls in proposals, by default those of a configuration that sets none

    A seat that was never asked is left out.
    """
    transcript, steps, earlier = Transcript(), list[AggregationStep](), ""
    for event in events:
        transcript.hear(event)
        match event:
            case AggregationStarted() | AggregationReplaced():
                steps.clear()
            case AggregationStep():
                steps.append(event)
            case _:
                earlier = earlier or getattr(event, "again", "")
    if transcript.recipe is None or transcript.conversation is None:
        return ()
    run = _Run(transcript, transcript.recipe, transcript.conversation, only, earlier)
    long = is_heavy(run.conversation) or sum(len(text) for text in run.texts()) > LIGHT_BYTES
    sent: list[Sent] = []
    table = Table(())
    for index in range(len(transcript.layers)):
        if only is None or only[0] == index:
            sent += await done(long, run.layer, index, table)
        table = run.after(index, table)
    if run.wants_analyst(table):
        sent += await done(long, run.analyst, table)
    if run.wants_aggregator():
        texts, listed = await run.listed(table, bounds)
        sent += await done(long, run.aggregator, table, texts, listed, steps)
    return tuple(sent)


class _Run(Struct):
    """A run whose messages are worked out.

    only: the one seat that is wanted; `None` for all
    again: id of the earlier run in which seats were found; "" if there is none
    """

    transcript: Transcript
    recipe: Recipe
    conversation: Conversation
    only: Address | None
    again: str

    def wants(self, address: Address) -> bool:
        return self.only in (None, address)

    def texts(self) -> Iterator[str]:
        """The texts of all proposals."""
        return (seat.text for layer in self.transcript.layers for seat in layer)

    def layer(self, index: int, table: Table) -> list[Sent]:
        """What the seats of a layer were sent that found this table."""
        layer, seats = self.recipe.layers[index], self.transcript.layers[index]
        told = brief(self.recipe, self.conversation, role_of_layer(layer))
        sent: list[Sent] = []
        place = 0
        for agent in layer.agents:
            for sample in range(agent.samples):
                seat, address = seats[place], (index, place)
                place += 1
                if not seat.started or not self.wants(address):
                    continue
                seen = _seen(seat, table)
                texts = tuple(table.texts[each] for each in seen)
                own = instructed(told, layer, agent)
                messages = prompt(own, system_of(agent), texts, table.truncated_at(seen), marks=table.marks(seen))
                sampling = sampling_of(self.recipe, agent, *address, sample)
                sent.append(self.sent(address, messages, sampling, calls=self.calls(address)))
        return sent

    def after(self, index: int, table: Table) -> Table:
        """What the next readers find after a layer that has found `table`."""
        comments = self.recipe.layers[index].comments
        made = tuple(
            Proposal(place, seat.model, seat.answer, index, comments, _about(seat, table) if comments else None)
            for place, seat in enumerate(self.transcript.layers[index])
            if seat.answer is not None
        )
        return Table((*table.all, *made) if comments else made)

    def wants_analyst(self, table: Table) -> bool:
        asked = self.transcript.analyst is not None and len(table.proposals) >= LEAST_PROPOSALS
        return asked and self.wants((len(self.recipe.layers), ANALYST_SEAT))

    def analyst(self, table: Table) -> list[Sent]:
        """What the analyst was sent."""
        address, analyst = (len(self.recipe.layers), ANALYST_SEAT), self.recipe.analyst or Analyst("")
        proposals = Table(table.proposals)
        told = brief(self.recipe, self.conversation, "analyst")
        messages = prompt(told, system_of(analyst), proposals.texts, proposals.truncated)
        sampling = sampling_of(self.recipe, analyst, *address, 0)
        return [self.sent(address, messages, sampling, schema=True, calls=self.calls(address))]

    def wants_aggregator(self) -> bool:
        return self.transcript.aggregator != "" and self.wants((len(self.recipe.layers), 0))

    async def listed(self, table: Table, bounds: Bounds) -> tuple[tuple[str, ...], str]:
        """The texts on the table as the aggregator reads them, and the list of the tool calls that they propose."""
        if self.conversation.tools and proposing(self.conversation, self.recipe.advice):
            count = len(table.proposals)
            numbered, listed = await gathered(self.conversation, table.texts[:count], bounds)
            return (*numbered, *table.texts[count:]), listed
        return table.texts, ""

    def aggregator(
        self, table: Table, texts: tuple[str, ...], listed: str, steps: Sequence[AggregationStep]
    ) -> list[Sent]:
        """What the aggregator was sent: once, or once in each of its steps.

        texts, listed: see `listed`
        """
        address, recipe, conversation = (len(self.recipe.layers), 0), self.recipe, self.conversation
        if (role := role_of_aggregator(recipe, conversation)) is None:
            return []
        told, agent, calls = brief(recipe, conversation, role), recipe.aggregator, self.calls(address)
        if not told.lists_calls:
            texts, listed = table.texts, ""
        sampling = sampling_of(recipe, agent, *address, 0)
        if role != "selector":
            sampling = as_asked(sampling, conversation.sampling)

        system = agent.system if conversation.tools else system_of(agent)

        def messages(
            which: Brief, draft: str | None, left: Sequence[int], analysis: Analysis | None, sources: str = ""
        ) -> tuple[Message, ...]:
            indexes = (*(() if draft is None else (DRAFT,)), *left)
            read = (*(() if draft is None else (draft,)), *(texts[each] for each in left))
            about = "" if analysis is None else analysis_for(analysis, table, indexes)
            cut, marks = table.truncated_at(indexes), table.marks(indexes)
            return prompt(which, system, read, cut, listed, marks, about, sources)

        sent: list[Sent] = []
        draft: str | None = None
        left = list(range(len(texts)))
        before = [call for call in calls if call.model != self.transcript.aggregator]
        own = calls[len(before) :]
        for number, step in enumerate(steps, 1):
            which = brief(recipe, conversation, "drafter")
            made = messages(which, draft, step.proposals, None)
            sent.append(self.sent(address, made, sampling, step=number, calls=own[number - 1 : number]))
            draft = step.answer.text
            left = [each for each in left if each not in step.proposals]
        uses = [use for use in self.transcript.uses if (use.layer, use.seat) != address]
        known = as_list(told_sources(sources_of(uses, len(recipe.layers)))) if told.has_sources and texts else ""
        whole = messages(told, draft, left, self.analysis, known)
        named = () if role == "selector" else tuple(tool.name for tool in conversation.tools)
        schema = conversation.response_format is not None
        rest = calls if not steps else own[len(steps) :]
        return [*sent, self.sent(address, whole, sampling, tools=named, schema=schema, calls=rest)]

    @property
    def analysis(self) -> Analysis | None:
        """What the aggregator reads of the analyst; `None` for nothing."""
        found = self.transcript.analysis
        if found is None or not (found.quoted or found.gaps):
            return None
        return None if any(loss.message == NO_ROOM for loss in self.transcript.losses) else found

    def calls(self, address: Address) -> tuple[CallFinished, ...]:
        return tuple(call for call in self.transcript.calls if (call.layer, call.seat) == address)

    def sent(
        self,
        address: Address,
        messages: tuple[Message, ...],
        sampling: Sampling,
        *,
        step: int = 0,
        tools: tuple[str, ...] = (),
        schema: bool = False,
        calls: tuple[CallFinished, ...] = (),
    ) -> Sent:
        notes: list[str] = []
        asked = [call for call in calls if not call.stored]
        if self.again and not asked:
            notes.append(f"The seat was not asked in this run: its answer was found, perhaps in run {self.again}.")
        if documents_of(messages):
            notes.append("Documents are shown as text; a model that takes files was sent the file.")
        for fitted in self.transcript.fitted:
            if (fitted.layer, fitted.seat) == address:
                what = f"For {fitted.model} the prompt was shortened from {fitted.before:,} to {fitted.after:,} tokens"
                notes.append(f"{what} in {len(fitted.cuts)} of its texts, which are shown in full here.")
        answered = [call.model for call in asked if call.error is None]
        uses = sum((use.layer, use.seat) == address for use in self.transcript.uses)
        if uses:
            results = f"the results of {uses} tool call{'s' * (uses != 1)}"
            notes.append(f"The later prompts had {results} as well, which are not stored. The tools are left out here.")
        elif not step and len(answered) > 1 and len(set(answered)) == 1:
            notes.append("The model was asked again with its first answer, and with what was wrong with it.")
        if sampling.max_tokens is None:
            notes.append("Without max_tokens, a cap of money limits the answer to what the model can write or to 4096.")
        shown = with_documents(messages, sent=False)
        return Sent(*address, step, shown, sampling, tools, schema, calls, tuple(notes))


def _seen(seat: Seat, table: Table) -> tuple[int, ...]:
    """The indexes on the table of what a seat read."""
    if seat.saw is None:
        return table.everything
    return tuple(index for index, each in enumerate(table.all) if (each.layer, each.seat) in seat.saw)


def _about(seat: Seat, table: Table) -> frozenset[int] | None:
    """The seats of the proposals that a comment is about; `None` for all."""
    if seat.saw is None:
        return None
    return frozenset(table.all[index].seat for index in _seen(seat, table) if not table.all[index].comment)


class ShownMessage(Struct, frozen=True):
    """A message for people: its role, its parts as one text, and about how many tokens it has."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    tokens: int


def shown(message: Message) -> ShownMessage:
    """The message for people. Pictures, tool calls and tool results stand in it as words."""
    return ShownMessage(message.role, "".join(map(_words, message.parts)), likely_tokens((message,)))


def _words(part: Part) -> str:
    match part:
        case Image(url=url) if url:
            return f"[picture: {url}]\n"
        case Image(data=data, media_type=kind):
            return f"[picture: {kind or 'unknown type'}, {len(data):,} bytes]\n"
        case _:
            return text_of((in_words(part),))


def plain(sent: Sent) -> dict[str, Any]:
    """What a seat was sent as plain values, for JSON: texts instead of pictures, and only settings that are set."""
    settings: dict[str, Any] = msgspec.to_builtins(sent.sampling)
    calls = [
        {
            "model": call.model,
            "input_tokens": None if call.usage is None else call.usage.input_tokens,
            "cached_input_tokens": None if call.usage is None else call.usage.cached_input_tokens,
            "output_tokens": None if call.usage is None else call.usage.output_tokens,
            "error": None if call.error is None else call.error.cause,
            "stored": call.stored,
        }
        for call in sent.calls
    ]
    return {
        "layer": sent.layer,
        "seat": sent.seat,
        "step": sent.step,
        "messages": [msgspec.to_builtins(shown(message)) for message in sent.messages],
        "sampling": settings,
        "tools": list(sent.tools),
        "schema": sent.schema,
        "calls": calls,
        "notes": list(sent.notes),
    }
