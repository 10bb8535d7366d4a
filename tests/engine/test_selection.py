"""An aggregator that selects: its answer is one of the proposals to the letter, or it has failed."""

from decimal import Decimal

import pytest

from partsong import Agent, Aggregator, Conversation, Layer, QuestionError, Recipe, RecipeError, Tool, asking, run
from partsong.assembly import assemble
from partsong.engine.selection import selected
from partsong.errors import RunError
from partsong.model import Sampling
from partsong.prompts import selecting_instruction
from partsong.recipes.reading import overridden


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("2", 1),
        (" **3**\n", 2),
        ("Proposal 2 is the best.", 1),
        ("1 is wrong and 3 forgets half, so the best is 2.", 1),
        ("I weighed 1, 2 and 3.\n\nBest: 3", 2),
        ("The best answer is number 1", 0),
        ("1 or 2", None),
        ("9", None),
        ("0", None),
        ("1.5", None),
        ("all of them", None),
        ("", None),
    ],
)
def test_a_number_is_read_and_never_guessed(words: str, place: int | None) -> None:
    assert selected(words, 3) == place


def test_of_one_proposal_the_one_is_best_whatever_is_said() -> None:
    assert selected("It is fine.", 1) == 0


def ranking(says: str, **fields: object) -> Recipe:
    agents = (Agent("scripted:a?text=One."), Agent("scripted:b?text=Two."), Agent("scripted:c?fail=server"))
    recipe = Recipe("ranking", (Layer(agents),), Aggregator(f"scripted:r?text={says}", method="select"))
    return overridden(recipe, fields)


async def test_the_answer_is_the_proposal_that_was_named() -> None:
    recipe = ranking("2")
    async with assemble(recipe.models) as models:
        transcript = await run(recipe, "Which?", models, watch=True)
    assert transcript.answer is not None
    assert transcript.answer.text == "Two."
    assert transcript.seat == 1
    # The ranker's one word was paid for, and the proposals only once.
    said = [seat.answer.usage.output_tokens for layer in transcript.layers for seat in layer if seat.answer]
    assert transcript.usage.output_tokens == sum(said) + transcript.answer.usage.output_tokens
    assert transcript.answer.usage.output_tokens < said[1] + 1


async def test_a_lost_seat_shifts_the_numbers_and_not_the_seats() -> None:
    agents = (Agent("scripted:c?fail=server"), Agent("scripted:a?text=One."), Agent("scripted:b?text=Two."))
    recipe = Recipe("ranking", (Layer(agents),), Aggregator("scripted:r?text=2", method="select"))
    async with assemble(recipe.models) as models:
        transcript = await run(recipe, "Which?", models)
    assert transcript.seat == 2
    assert transcript.text == "Two."


async def test_one_who_names_none_has_failed_and_a_fallback_may_name_one() -> None:
    recipe = ranking("all")
    async with assemble(recipe.models) as models:
        with pytest.raises(RunError, match='was to name one proposal, but said "all"'):
            await run(recipe, "Which?", models)
    recipe = ranking("all", last_resort="best_proposal")
    async with assemble(recipe.models) as models:
        transcript = await run(recipe, "Which?", models)
    assert transcript.last_resort
    assert transcript.seat in (0, 1)
    recipe = Recipe(
        "ranking",
        ranking("all").layers,
        Aggregator("scripted:r?text=all", method="select", fallback=("scripted:s?text=1",)),
    )
    async with assemble(recipe.models) as models:
        transcript = await run(recipe, "Which?", models)
    assert (transcript.text, transcript.seat) == ("One.", 0)
    assert transcript.replaced[0][1].cause == "invalid"


async def test_the_ranker_is_told_ours_and_keeps_its_own_limits() -> None:
    """What the caller wants of the answer, its limit above all, is no limit for the number."""
    recipe = Recipe(
        "ranking",
        (Layer((Agent("scripted:a?text=One."), Agent("scripted:b?text=Two."))),),
        Aggregator("scripted:r?echo=true", method="select", max_tokens=7),
        instruction="SYNTHESIZE",
        last_resort="best_proposal",
    )
    heard = []

    async with assemble(recipe.models) as models:
        real = models["scripted:r?echo=true"]

        async def listening(request, send):  # type: ignore[no-untyped-def]
            heard.append(request)
            return await real(request, send)

        conversation = Conversation(asking("Which?").messages, sampling=Sampling(max_tokens=1, temperature=1.5))
        await run(recipe, conversation, {**models, "scripted:r?echo=true": listening})
    (request,) = heard
    assert request.sampling == Sampling(max_tokens=7)
    assert request.messages[-1].text.startswith(selecting_instruction()[:60])
    assert "SYNTHESIZE" not in request.messages[-1].text


async def test_a_budget_pays_the_reading_too() -> None:
    recipe = ranking("2", max_dollars="0.5")
    async with assemble(recipe.models) as models:
        transcript = await run(recipe, "Which?", models)
    assert transcript.usage.dollars == Decimal(0)


async def test_what_it_cannot_do_is_refused_before_anything_is_asked() -> None:
    recipe = ranking("2")
    async with assemble(recipe.models) as models:
        tools = Conversation(asking("Which?").messages, tools=(Tool("look", "Looks.", b'{"type":"object"}'),))
        with pytest.raises(QuestionError, match="it cannot call tools"):
            await run(recipe, tools, models)
    with pytest.raises(RecipeError, match="nothing to select from"):
        overridden(recipe, {"layers": []})
