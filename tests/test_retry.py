"""Trying again: only what can pass, only while nothing was said, and not before the provider wants it."""

import asyncio

import pytest

from partsong import Answer, Delta, ModelError, Request, Send, Text, TextDelta, asking
from partsong.errors import CAUSES, PASSING, Cause
from partsong.middleware.retry import FIRST_PAUSE, LONGEST_PAUSE, Retry, pause

REQUEST = Request(asking("Why?").messages)


class Failing:
    """A model that fails as told, call by call, and then answers."""

    def __init__(self, *errors: ModelError, words: str = "") -> None:
        self.errors, self.words, self.calls = list(errors), words, 0

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.calls += 1
        if send is not None and self.words:
            await send(TextDelta(self.words))
        if self.errors:
            raise self.errors.pop(0)
        return Answer((Text("Because."),))


async def listen(delta: Delta) -> None:
    pass


def soon(cause: Cause) -> ModelError:
    return ModelError("no", cause, retry_after=0)


@pytest.mark.parametrize("cause", CAUSES)
async def test_only_causes_that_can_pass_are_tried_again(cause: Cause) -> None:
    model = Failing(soon(cause))
    retry = Retry(model)
    if cause in PASSING:
        assert (await retry(REQUEST, listen)).text == "Because."
        assert model.calls == 2
    else:
        with pytest.raises(ModelError):
            await retry(REQUEST, listen)
        assert model.calls == 1


async def test_it_gives_up_after_the_last_attempt() -> None:
    model = Failing(*(soon("server") for _ in range(9)))
    with pytest.raises(ModelError):
        await Retry(model)(REQUEST, None)
    assert model.calls == 3


async def test_once_something_was_said_there_is_no_second_start() -> None:
    model = Failing(soon("server"), words="Well,")
    with pytest.raises(ModelError):
        await Retry(model)(REQUEST, listen)
    assert model.calls == 1


async def test_a_provider_that_wants_a_long_pause_is_not_waited_for() -> None:
    model = Failing(ModelError("later", "rate", retry_after=LONGEST_PAUSE + 1))
    with pytest.raises(ModelError):
        await Retry(model)(REQUEST, None)
    assert model.calls == 1


async def test_cancelling_ends_the_pause() -> None:
    model = Failing(ModelError("later", "rate", retry_after=20))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Retry(model)(REQUEST, None)
    assert model.calls == 1


def test_pauses_grow_and_a_providers_word_is_kept() -> None:
    for attempt in range(8):
        least = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
        assert least <= pause(attempt, None) <= least + FIRST_PAUSE * 2**attempt
        assert pause(attempt, 7.0) >= 7.0
