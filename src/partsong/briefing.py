"""Decides what a model is told in each role: the visible conversation, the instruction, and marks around proposals.

No other file decides this. The engine sends the messages that `prompt` makes, and the cost planning measures
`longest_marks` of the same brief. If the two disagreed, a run could cost more than its hard cap.
"""

from collections.abc import Iterable
from typing import Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from partsong.model import Conversation, Message
from partsong.prompts import (
    WIDEST_WORD,
    advised,
    compose,
    fences,
    instruction_for,
    listed,
    proposing,
    selecting_instruction,
    with_system,
)
from partsong.recipe import Layout, Recipe

AggregatorRole = Literal["synthesizer", "actor", "selector"]
# A drafter is an aggregator that reads the proposals in several steps: it writes prose, which its next step reads.
Role = Literal["proposer", "drafter"] | AggregatorRole


class Brief(Struct, frozen=True):
    """The prompt of one role without the proposals and without the agent's own system prompt.

    conversation: the messages that the role sees, the tools that it may call, and the schema of its answer
    layout: where the proposals stand in the prompt
    instruction: text that tells the model what to do with the proposals
    lists_calls: whether a list of the proposed tool calls follows the proposals (default: no)
    """

    conversation: Conversation
    layout: Layout
    instruction: str
    lists_calls: bool = False

    @property
    def fences(self) -> bool:
        """Whether the layout puts each proposal between marks, which the model might copy into its answer."""
        return fences(self.layout)


def role_of_aggregator(recipe: Recipe, conversation: Conversation) -> AggregatorRole | None:
    """The aggregator's role if it is asked: "selector" if it selects, "actor" if there are tools, else "synthesizer".

    `None` if nothing can ask it, because a vote without a majority fails the run.
    """
    match recipe.aggregator.when_asked:
        case "synthesize":
            return "actor" if conversation.tools else "synthesizer"
        case "select":
            return "selector"
        case "fail":
            return None
        case method:
            assert_never(method)


def brief(recipe: Recipe, conversation: Conversation, role: Role) -> Brief:
    """The brief of a role in a run of `recipe` on `conversation`. It is the same for every agent in that role."""
    layout = recipe.layout

    def instruction(*, acts: bool = False) -> str:
        return instruction_for(layout, acts=acts) if recipe.instruction is None else recipe.instruction

    match role:
        case "proposer":
            return Brief(advised(conversation, recipe.advice), layout, instruction())
        case "drafter":
            calls = proposing(conversation, recipe.advice)
            return Brief(advised(conversation, recipe.advice), layout, instruction(), calls)
        case "synthesizer":
            return Brief(conversation, layout, instruction())
        case "actor":
            calls = proposing(conversation, recipe.advice)
            return Brief(conversation, layout, instruction(acts=True), calls)
        case "selector":
            # The paper shows no prompt for its ranker. Ours needs fences, whatever the recipe's layout and wording.
            return Brief(conversation, "tail", selecting_instruction())
        case _:
            assert_never(role)


def prompt(
    told: Brief,
    system: str,
    proposals: tuple[str, ...],
    truncated: frozenset[int] = frozenset(),
    calls: str = "",
) -> tuple[Message, ...]:
    """The messages that are sent to an agent.

    told: the brief of the agent's role
    system: the agent's own system prompt; "" for none
    proposals: texts of the proposals to read, in seat order
    truncated: indexes of the proposals that stopped at their token limit (default: none)
    calls: the text that lists the proposed tool calls; "" for none
    """
    return compose(told.conversation, proposals, told.layout, told.instruction, system, truncated, calls)


def prompts(
    told: Brief,
    systems: Iterable[str],
    proposals: tuple[str, ...],
    truncated: frozenset[int] = frozenset(),
) -> dict[str, tuple[Message, ...]]:
    """The messages of `prompt` for each of several system prompts of agents. They share the text of the proposals.

    systems: system prompts of the agents; "" for none
    """
    if not proposals or not told.fences:  # the layout `paper` has the proposals in the system message
        return {system: prompt(told, system, proposals, truncated) for system in systems}
    whole = prompt(told, "", proposals, truncated)
    return {system: with_system(whole, system) for system in systems}


def longest_marks(told: Brief, count: int) -> tuple[Message, ...]:
    """The messages that `count` empty proposals add to a prompt, in their longest form, for the cost planning.

    They hold the instruction and the marks around each proposal, with every proposal marked as truncated.
    """
    calls = listed((), 0) if told.lists_calls else ""
    empty = replace(told, conversation=Conversation(()))
    return compose(
        empty.conversation,
        ("",) * count,
        empty.layout,
        empty.instruction,
        truncated=frozenset(range(count)),
        calls=calls,
        word=WIDEST_WORD,
    )
