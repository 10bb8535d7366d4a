"""Decides what a model is told in each role: the visible conversation, the instruction, and marks around proposals.

No other file decides this. The engine sends the messages that `prompt` makes, and the cost planning measures
`longest_marks` of the same brief. If the two disagreed, a run could cost more than its hard cap.
"""

from typing import Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from partsong.analysis import HEADINGS
from partsong.model import Conversation, Message
from partsong.prompts import (
    WIDEST_WORD,
    Mark,
    advised,
    commenting_instruction,
    comparing_instruction,
    compose,
    fences,
    instruction_for,
    listed,
    proposing,
    selecting_instruction,
    wording,
)
from partsong.recipe import Agent, Layer, Layout, Recipe

AggregatorRole = Literal["synthesizer", "actor", "selector"]
# A drafter is an aggregator that reads the proposals in several steps: it writes prose, which its next step reads.
Role = Literal["proposer", "commenter", "drafter", "analyst"] | AggregatorRole


class Brief(Struct, frozen=True):
    """The prompt of one role without the proposals and without the agent's own system prompt.

    conversation: the messages that the role sees, the tools that it may call, and the schema of its answer
    layout: where the proposals stand in the prompt
    instruction: text that tells the model what to do with the proposals
    lists_calls: whether a list of the proposed tool calls follows the proposals (default: no)
    has_analysis: whether an analysis may follow the proposals (default: no)
    has_sources: whether a list of sources may follow the proposals, which the answer may cite (default: no)
    """

    conversation: Conversation
    layout: Layout
    instruction: str
    lists_calls: bool = False
    has_analysis: bool = False
    has_sources: bool = False

    @property
    def fences(self) -> bool:
        """Whether the layout puts each proposal between marks, which the model might copy into its answer."""
        return fences(self.layout)


def role_of_layer(layer: Layer) -> Role:
    """The role of a layer's agents."""
    return "commenter" if layer.comments else "proposer"


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
    """The brief of a role in a run of `recipe` on `conversation`.

    It is the same for all agents in this role but those of layers with an instruction of their own; see `instructed`.
    """
    layout, own, analysed = recipe.layout, recipe.aggregator.instruction, recipe.analyst is not None

    def instruction(*, acts: bool = False) -> str:
        wanted = recipe.instruction if own is None or role == "proposer" else own
        return instruction_for(layout, acts=acts) if wanted is None else wanted

    match role:
        case "proposer":
            return Brief(advised(conversation, recipe.advice), layout, instruction())
        case "commenter":
            # The recipe's instruction tells how to make an answer out of proposals, which is not what comments are for.
            seen = advised(conversation, recipe.advice, proposes=False)
            return Brief(seen, "tail", commenting_instruction())
        case "drafter":
            calls = proposing(conversation, recipe.advice)
            return Brief(advised(conversation, recipe.advice), layout, instruction(), calls)
        case "synthesizer":
            cites = conversation.response_format is None and _reads(recipe)
            return Brief(conversation, layout, instruction(), has_analysis=analysed, has_sources=cites)
        case "actor":
            calls = proposing(conversation, recipe.advice)
            return Brief(conversation, layout, instruction(acts=True), calls, analysed)
        case "selector":
            # The paper shows no prompt for its ranker. Ours needs fences, whatever the recipe's layout and wording.
            told = selecting_instruction() if own is None else own
            return Brief(conversation, "tail", told, has_analysis=analysed)
        case "analyst":
            # Its labels are the numbers in the fences, so it has fences whatever the recipe's layout.
            comparing = comparing_instruction(None if recipe.analyst is None else recipe.analyst.instruction)
            return Brief(advised(conversation, recipe.advice), "tail", comparing)
        case _:
            assert_never(role)


def _reads(recipe: Recipe) -> bool:
    """Whether an agent before the aggregator looks things up."""
    analyst = () if recipe.analyst is None else (recipe.analyst,)
    return any(agent.tools for agent in (*(agent for layer in recipe.layers for agent in layer.agents), *analyst))


def system_of(agent: Agent) -> str:
    """The agent's own system prompt, with what an agent that looks things up is told about its tools; "" for none."""
    if not agent.tools:
        return agent.system
    return "\n\n".join((*([agent.system] if agent.system else ()), wording("look_up")))


def instructed(told: Brief, layer: Layer, agent: Agent) -> Brief:
    """The brief of a layer's role with the instruction of the agent or, without one, with that of the layer, if any."""
    own = layer.instruction if agent.instruction is None else agent.instruction
    return told if own is None else replace(told, instruction=own)


def prompt(
    told: Brief,
    system: str,
    proposals: tuple[str, ...],
    truncated: frozenset[int] = frozenset(),
    calls: str = "",
    marks: tuple[Mark, ...] = (),
    analysis: str = "",
    sources: str = "",
) -> tuple[Message, ...]:
    """The messages that are sent to an agent.

    told: the brief of the agent's role
    system: the agent's own system prompt; "" for none
    proposals: texts of the proposals to read, in seat order
    truncated: indexes of the proposals that stopped at their token limit (default: none)
    calls: the text that lists the proposed tool calls; "" for none
    marks: what the opening marks say, one for each text; empty (default) to number the texts from 1
    analysis: the text of the analysis of the proposals; "" (default) for none
    sources: the list of the sources that the authors have read; "" (default) for none
    """
    conversation, layout, instruction = told.conversation, told.layout, told.instruction
    return compose(
        *(conversation, proposals, layout, instruction, system, truncated, calls),
        marks=marks,
        analysis=analysis,
        sources=sources,
    )


def longest_marks(told: Brief, count: int, comments: int = 0, widest: int = 0) -> tuple[Message, ...]:
    """The messages that `count` empty texts add to a prompt, in their longest form, for the cost planning.

    comments: how many of these texts are comments; they stand last (default 0)
    widest: greatest number of a proposal on the table; 0 (default) if the proposals are numbered from 1

    They hold the instruction and the marks around each text, with every text marked as truncated.
    """
    marks = (Mark(widest),) * (count - comments) + (Mark(comments, comment=True),) * comments if widest else ()
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
        marks=marks,
        analysis=HEADINGS if told.has_analysis else "",
        sources=" " if told.has_sources else "",
    )
