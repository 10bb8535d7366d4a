"""What a model is told, by its role in a run: the conversation as the role sees it, the instruction, the marks.

This is the one place that decides. The engine sends the messages that `prompt` makes, and the cost planning measures
`longest_marks` of the same brief. A plan that measured anything else could let a run outgrow its hard cap on money.
"""

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
)
from partsong.recipe import Layout, Recipe

AggregatorRole = Literal["synthesizer", "actor", "selector"]
# A drafter is the aggregator while it reads the proposals in steps: it writes prose for its own next step.
Role = Literal["proposer", "drafter"] | AggregatorRole


class Brief(Struct, frozen=True):
    """What one role is told, apart from the proposals and the agent's own system prompt.

    conversation: the messages, tools and schema of the answer that the role sees
    layout: where the proposals stand
    instruction: what to do with the proposals
    lists_calls: whether the list of the proposed tool calls follows the proposals
    """

    conversation: Conversation
    layout: Layout
    instruction: str
    lists_calls: bool = False

    @property
    def fences(self) -> bool:
        """Whether each proposal stands between marks that the model might repeat in its answer."""
        return fences(self.layout)


def role_of_aggregator(recipe: Recipe, conversation: Conversation) -> AggregatorRole:
    """What the recipe's aggregator does with the proposals in this conversation."""
    match recipe.aggregator.method:
        case "synthesize":
            return "actor" if conversation.tools else "synthesizer"
        case "select":
            return "selector"
        case method:
            assert_never(method)


def brief(recipe: Recipe, conversation: Conversation, role: Role) -> Brief:
    """What a model in this role is told in a run of the recipe."""
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
    """The messages for an agent with the system prompt `system` that reads `proposals`, in seat order.

    `truncated` holds the indexes of the proposals that end at their limit of tokens. `calls` lists the proposed calls.
    """
    return compose(told.conversation, proposals, told.layout, told.instruction, system, truncated, calls)


def longest_marks(told: Brief, count: int) -> tuple[Message, ...]:
    """The messages that `count` proposals add to the conversation, without a word of theirs, in their longest form."""
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
