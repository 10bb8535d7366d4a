"""Refuses a run that is certain to fail, before the first call and before any money is spent."""

from collections.abc import Mapping

from partsong.bounds import Bounds
from partsong.engine.tool_calls import check_choice, check_schemas
from partsong.errors import QuestionError, RecipeError
from partsong.heavy import done, is_heavy
from partsong.model import Conversation, Document, Image, Model, ToolResult
from partsong.model_info import info_of
from partsong.prompts import documents_of, left_out, with_documents
from partsong.recipe import Recipe, needs_proposals
from partsong.wire.tokens import likely_tokens


async def check(recipe: Recipe, conversation: Conversation, models: Mapping[str, Model], bounds: Bounds) -> None:
    """Raise `RecipeError` if `models` lacks a model of the recipe, and `QuestionError` for an unusable conversation.

    A conversation is unusable if it has no question, has an image without data, or is too long for the aggregator. So
    is one with a wrong schema, with tools for an aggregator that cannot call them, or with a schema where the answer
    may be a proposal.
    """
    if missing := [name for name in recipe.models if name not in models]:
        raise RecipeError(f"{recipe.name}: there is no model for {', '.join(missing)}")
    heavy = is_heavy(conversation)
    await done(heavy, _check_question, recipe, conversation, models)
    await check_schemas(conversation, bounds)
    check_choice(conversation)
    _check_format(recipe, conversation)
    await done(heavy, _check_length, recipe, conversation, models, bounds)


def _check_question(recipe: Recipe, conversation: Conversation, models: Mapping[str, Model]) -> None:
    """Raise `QuestionError` for a conversation without a question, or with something that cannot be read."""
    if not conversation.messages or conversation.messages[-1].role not in ("user", "tool"):
        raise QuestionError("the conversation must end with a message of the user, or with a tool's result")
    last = conversation.messages[-1]
    if not last.text.strip() and not any(isinstance(part, Image | Document | ToolResult) for part in last.parts):
        raise QuestionError("the question is empty")
    for part in (part for message in conversation.messages for part in message.parts):
        if isinstance(part, Image) and not part.url and not (part.data and part.media_type.startswith("image/")):
            raise QuestionError("an image has neither a URL nor data with a media type such as image/png")
    _check_documents(recipe, conversation, models)


def _check_length(recipe: Recipe, conversation: Conversation, models: Mapping[str, Model], bounds: Bounds) -> None:
    """Raise `QuestionError` for a conversation that is longer than the bounds, or than the aggregator can read."""
    length = sum(len(message.text) for message in conversation.messages)
    length += sum(len(document.text) for document in documents_of(conversation.messages))
    if length > (longest := bounds.question_characters):
        raise QuestionError(f"the conversation has {length:,} characters, but at most {longest:,} are taken")
    # A proposer whose window is too small costs one seat. If no model of the aggregator can read the question, all
    # proposals are in vain. A window from a list may be wrong, and a fallback may have a larger window.
    if not recipe.aggregator.models:
        return
    info = [info_of(models[name]) for name in recipe.aggregator.models]
    windows = [known.window for known in info if known.window is not None and not known.listed]
    if len(windows) < len(info):
        return
    read = [likely_tokens(with_documents(conversation.messages, sent=known.documents)) for known in info]
    if all(tokens > window for tokens, window in zip(read, windows, strict=True)):
        raise QuestionError(
            f"the conversation has about {min(read):,} tokens, but {recipe.aggregator.model}, the aggregator, "
            f"reads {max(windows):,}"
        )


def _check_format(recipe: Recipe, conversation: Conversation) -> None:
    """Raise `QuestionError` for tools or a schema where the recipe's answer is one of the proposals, or may be one."""
    aggregator = recipe.aggregator
    if conversation.tools and aggregator.when_asked != "synthesize":
        acts = "selects one of the proposals" if aggregator.method == "select" else "takes a vote"
        otherwise = f' and then does "{aggregator.otherwise}"' if aggregator.method == "vote" else ""
        word = "otherwise" if aggregator.method == "vote" else "method"
        raise QuestionError(
            f"{recipe.name}: its aggregator {acts}{otherwise}, so it cannot call tools; "
            f'ask a recipe whose {word} is "synthesize"'
        )
    if conversation.response_format is None:
        return
    agreeing = [index for index, layer in enumerate(recipe.layers) if layer.agree is not None]
    if needs_proposals(aggregator):
        acts = "selects one of the proposals" if aggregator.method == "select" else "takes a vote among the proposals"
    elif agreeing:
        acts = ""
    else:
        return
    who = f"its aggregator {acts}" if acts else f"its layer {agreeing[0]} may end the run by agreement (agree)"
    raise QuestionError(
        f"{recipe.name}: {who}, so it cannot write what fits a schema; "
        'ask a recipe whose method is "synthesize" and whose layers have no agree'
    )


def _check_documents(recipe: Recipe, conversation: Conversation, models: Mapping[str, Model]) -> None:
    """Raise `QuestionError` for a document that no model can read, or that a strict recipe cannot read in full."""
    takers = [info_of(models[name]).documents for name in recipe.models]
    for document in documents_of(conversation.messages):
        if not document.text and not (any(takers) and document.can_be_sent):
            raise QuestionError(
                f"{document.name}: has no text that can be read (its pages may be scanned), and no model of "
                f"{recipe.name} takes PDFs as they are"
            )
    if recipe.strict and (lacking := left_out(conversation.messages, sent=all(takers))):
        raise QuestionError(f"{recipe.name} is strict, but its models would not be shown {lacking}")
