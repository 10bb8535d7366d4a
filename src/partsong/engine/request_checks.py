"""Refuses a run that is certain to fail, before the first call and before any money is spent."""

from collections.abc import Mapping

from partsong.engine.tool_calls import check_schemas
from partsong.errors import QuestionError, RecipeError
from partsong.model import Conversation, Image, Model, ToolResult
from partsong.model_info import info_of
from partsong.recipe import Recipe, needs_proposals
from partsong.wire.tokens import likely_tokens

LONGEST_QUESTION = 8 * 1024 * 1024  # characters of text in a conversation: twice as many as the widest windows hold


def check(recipe: Recipe, conversation: Conversation, models: Mapping[str, Model]) -> None:
    """Raise `RecipeError` if `models` lacks a model of the recipe, and `QuestionError` for an unusable conversation.

    A conversation is unusable if it has no question, has an image without data, or is too long for the aggregator. So
    is one with a wrong schema, or with tools or a schema for an aggregator that selects.
    """
    if missing := [name for name in recipe.models if name not in models]:
        raise RecipeError(f"{recipe.name}: there is no model for {', '.join(missing)}")
    if not conversation.messages or conversation.messages[-1].role not in ("user", "tool"):
        raise QuestionError("the conversation must end with a message of the user, or with a tool's result")
    last = conversation.messages[-1]
    if not last.text.strip() and not any(isinstance(part, Image | ToolResult) for part in last.parts):
        raise QuestionError("the question is empty")
    for part in (part for message in conversation.messages for part in message.parts):
        if isinstance(part, Image) and not part.url and not (part.data and part.media_type.startswith("image/")):
            raise QuestionError("an image has neither a URL nor data with a media type such as image/png")
    check_schemas(conversation)
    if needs_proposals(recipe.aggregator) and (conversation.tools or conversation.response_format is not None):
        wanted = "call tools" if conversation.tools else "write what fits a schema"
        raise QuestionError(
            f"{recipe.name}: its aggregator selects one of the proposals, so it cannot {wanted}; "
            'ask a recipe whose method is "synthesize"'
        )
    length = sum(len(message.text) for message in conversation.messages)
    if length > LONGEST_QUESTION:
        raise QuestionError(f"the conversation has {length:,} characters, but at most {LONGEST_QUESTION:,} are taken")
    # A proposer whose window is too small costs one seat. If no model of the aggregator can read the question, all
    # proposals are in vain. A window from a list may be wrong, and a fallback may have a larger window.
    info = [info_of(models[name]) for name in recipe.aggregator.models]
    windows = [known.window for known in info if known.window is not None and not known.listed]
    if len(windows) == len(info) and (tokens := likely_tokens(conversation.messages)) > max(windows):
        raise QuestionError(
            f"the conversation has about {tokens:,} tokens, but {recipe.aggregator.model}, the aggregator, "
            f"reads {max(windows):,}"
        )
