"""Scripted models: deterministic, and all that a script says comes true."""

import asyncio
from decimal import Decimal

import pytest

from partsong import Answer, ConfigurationError, Delta, ModelError, Request, Sampling, TextDelta, asking
from partsong.errors import CAUSES
from partsong.model import Message, Text
from partsong.providers.scripted import Scripted

REQUEST = Request(asking("Why is the sky blue?").messages)


async def heard(name: str, request: Request = REQUEST) -> tuple[Answer, list[str]]:
    said: list[str] = []

    async def send(delta: Delta) -> None:
        assert isinstance(delta, TextDelta)
        said.append(delta.text)

    return await Scripted(name)(request, send), said


async def test_the_same_question_gives_the_same_answer_and_another_one_another() -> None:
    answer, said = await heard("a")
    assert (await heard("a"))[0] == answer == await Scripted("a")(REQUEST, None)
    assert "".join(said) == answer.text
    assert len(said) == 20 == answer.usage.output_tokens
    others = [
        (await heard("b"))[0],
        (await heard("a?seed=1"))[0],
        (await heard("a", Request(REQUEST.messages, sample=1)))[0],
        (await heard("a", Request(REQUEST.messages, sampling=Sampling(seed=1))))[0],
        (await heard("a", Request((*REQUEST.messages, Message("user", (Text("And?"),))))))[0],
    ]
    assert len({answer.text, *(other.text for other in others)}) == 6


async def test_text_echo_and_length() -> None:
    assert (await heard("a?text=Hello%20to you"))[1] == ["Hello", " to", " you"]
    assert (await heard("a?echo=1"))[0].text == "Why is the sky blue?"
    assert (await heard("a?tokens=3"))[0].usage.output_tokens == 3
    short = (await heard("a?tokens=30", Request(REQUEST.messages, sampling=Sampling(max_tokens=4))))[0]
    assert (short.finish_reason, short.usage.output_tokens) == ("length", 4)
    whole = (await heard("a?tokens=4", Request(REQUEST.messages, sampling=Sampling(max_tokens=4))))[0]
    assert whole.finish_reason == "stop"


async def test_price_and_time() -> None:
    answer = (await heard("a?input=1&output=2&tokens=10"))[0]
    assert answer.usage.dollars == Decimal(answer.usage.input_tokens + 20) / 1_000_000
    loop = asyncio.get_running_loop()
    before = loop.time()
    await heard("a?tokens=3&first=0.02&each=0.01")
    assert loop.time() - before >= 0.039


@pytest.mark.parametrize("cause", CAUSES)
async def test_every_cause_can_be_scripted(cause: str) -> None:
    with pytest.raises(ModelError) as caught:
        await heard(f"a?fail={cause}&after=2")
    assert caught.value.cause == cause
    assert caught.value.usage is not None
    assert caught.value.usage.output_tokens == 2


async def test_chance_is_as_told() -> None:
    fates = []
    for sample in range(300):
        try:
            await Scripted("a?fail=rate&chance=0.3")(Request(REQUEST.messages, sample=sample), None)
            fates.append(0)
        except ModelError:
            fates.append(1)
    assert 60 < sum(fates) < 120


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a?tokns=3", 'did you mean "tokens"'),
        ("a?tokens=many", "tokens"),
        ("a?fail=luck", "must be one of auth"),
        ("a?each=-1", "below 0"),
        ("a?output=dear", "output"),
    ],
)
def test_a_script_that_makes_no_sense_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=r"scripted:a\?") as caught:
        Scripted(name)
    assert said in str(caught.value)
