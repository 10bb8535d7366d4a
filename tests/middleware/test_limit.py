"""A provider's gate: calls at once, and what it allows in a minute, shared fairly and without a trace of who left."""

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from partsong import Answer, ModelError, Request, Sampling, Send, Text, Usage, asking
from partsong.middleware.limit import LONGEST_WAIT, Gate, Limit
from partsong.middleware.rate import FREE, Bucket
from partsong.model import Message, Model, Terms
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from partsong.wire.rate_limit_headers import Quota, RateLimits
from partsong.wire.tokens import estimate_tokens
from tests.clock import START, JumpingLoop, jumping
from tests.upstream import Exchange, Reply, Server, chat, status

REQUEST = Request(asking("Why?").messages)
MINUTE = 60.0


def by(run: str, *, until: float | None = None, max_tokens: int | None = None) -> Request:
    """A request of a run."""
    return Request(REQUEST.messages, sampling=Sampling(max_tokens=max_tokens), terms=Terms(until=until, run=run))


def steady(limit: int, remaining: int) -> Quota:
    return Quota(limit, remaining, (limit - remaining) * MINUTE / limit, None, True)


def now() -> float:
    return asyncio.get_running_loop().time()


class Taking:
    """A model that takes so many seconds and tokens, and notes who began when."""

    def __init__(self, seconds: float = 0.0, tokens: int = 10) -> None:
        self.seconds, self.tokens = seconds, tokens
        self.began: list[tuple[str, float]] = []
        self.inside = self.most = 0

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.began.append((request.terms.run, now() - START))
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.inside -= 1
        return Answer((Text("Because."),), usage=Usage(estimate_tokens(request), self.tokens))


def is_empty(gate: Gate, concurrency: int) -> bool:
    """Whether nobody has left a trace: no permit is out, nothing reserved, no one waits, no timer is set."""
    lanes = gate.lanes.values()
    return (
        gate.free == concurrency
        and not gate.queues
        and (gate.timer is None or gate.timer.cancelled())
        and all(lane.inside == 0 and lane.under_way == pytest.approx(FREE) for lane in lanes)
    )


@jumping
async def test_no_more_calls_at_once_than_allowed_over_all_models() -> None:
    model, gate = Taking(1.0), Gate("lab", 3)
    limits = (Limit(model, "a", gate), Limit(model, "b", gate))
    await asyncio.gather(*(limit(REQUEST, None) for limit in limits for _ in range(10)))
    assert model.most == 3
    assert now() == START + 7
    assert is_empty(gate, 3)


@jumping
async def test_before_anything_is_learnt_there_is_no_limit_on_the_rate() -> None:
    model, gate = Taking(), Gate("lab", 1000)
    await asyncio.gather(*(Limit(model, "a", gate)(REQUEST, None) for _ in range(1000)))
    assert {when for _, when in model.began} == {0.0}


@jumping
async def test_requests_in_a_minute_are_learnt_and_kept() -> None:
    model, gate = Taking(), Gate("lab", 64)
    gate.hear("a", RateLimits(requests=steady(60, 2)))
    await asyncio.gather(*(Limit(model, "a", gate)(REQUEST, None) for _ in range(12)))
    assert [when for _, when in model.began] == pytest.approx([0, 0, *range(1, 11)], abs=0.01)
    assert is_empty(gate, 64)


@jumping
async def test_one_models_rate_is_not_anothers() -> None:
    model, gate = Taking(), Gate("lab", 64)
    gate.hear("a", RateLimits(requests=Quota(10, 0, 40.0)))
    slow = asyncio.create_task(Limit(model, "a", gate)(by("a"), None))
    await asyncio.sleep(0)
    await Limit(model, "b", gate)(by("b"), None)
    await slow
    assert model.began == [("b", 0.0), ("a", 40.0)]


@jumping
async def test_a_window_gives_all_of_it_back_at_its_end() -> None:
    model, gate = Taking(), Gate("lab", 64)
    gate.hear("a", RateLimits(requests=Quota(5, 1, 30.0)))
    await asyncio.gather(*(Limit(model, "a", gate)(REQUEST, None) for _ in range(6)))
    assert [when for _, when in model.began] == [0.0, 30.0, 30.0, 30.0, 30.0, 30.0]


@jumping
async def test_tokens_are_reserved_before_and_settled_after() -> None:
    request = by("", max_tokens=500)
    asked = estimate_tokens(request)
    model, gate = Taking(tokens=100), Gate("lab", 64)
    gate.hear("a", RateLimits(tokens=steady(60_000, 2 * (500 + asked))))
    limit = Limit(model, "a", gate)
    await asyncio.gather(*(limit(request, None) for _ in range(3)))
    # Two fit at once; they used 100 of the 500 that each had reserved, so the third goes as soon as they have ended.
    assert [when for _, when in model.began] == [0.0, 0.0, 0.0]
    assert gate.lanes["a"].buckets[1].level == pytest.approx(2 * (500 + asked) - 3 * (100 + asked))
    model.tokens = 5000  # more than was reserved is counted as well
    await limit(request, None)
    assert gate.lanes["a"].buckets[1].level < 0
    await limit(request, None)
    assert model.began[-1][1] > 4


@jumping
async def test_input_and_output_have_limits_of_their_own() -> None:
    model, gate = Taking(), Gate("lab", 64)
    gate.hear("a", RateLimits(input_tokens=steady(60_000, 60_000), output_tokens=steady(6000, 0)))
    await Limit(model, "a", gate)(by("", max_tokens=100), None)
    assert model.began[0][1] == pytest.approx(1.0)


@jumping
async def test_what_is_more_than_a_limit_goes_when_everything_is_there() -> None:
    model, gate = Taking(), Gate("lab", 64)
    gate.hear("a", RateLimits(tokens=steady(6000, 3000)))
    await Limit(model, "a", gate)(by("", max_tokens=100_000), None)
    assert model.began[0][1] == pytest.approx(30.0, abs=0.1)


@jumping
async def test_runs_take_turns() -> None:
    model, gate = Taking(1.0), Gate("lab", 2)
    limit = Limit(model, "a", gate)
    seats = [asyncio.create_task(limit(by("wide"), None)) for _ in range(100)]
    await asyncio.sleep(0.5)
    await limit(by("narrow"), None)
    assert now() <= START + 2.1  # after the two that were inside, not after the hundred
    await asyncio.gather(*seats)
    assert is_empty(gate, 2)


@jumping
async def test_runs_take_turns_where_the_rate_is_what_they_wait_for() -> None:
    model, gate = Taking(), Gate("lab", 64)
    gate.hear("a", RateLimits(requests=steady(60, 0)))
    limit = Limit(model, "a", gate)
    wide = [asyncio.create_task(limit(by("wide"), None)) for _ in range(30)]
    await asyncio.sleep(0)
    narrow = [asyncio.create_task(limit(by("narrow"), None)) for _ in range(3)]
    await asyncio.gather(*wide, *narrow)
    assert [run for run, _ in model.began[:6]] == ["wide", "narrow"] * 3


@jumping
async def test_within_a_run_who_came_first_goes_first() -> None:
    model, gate = Taking(1.0), Gate("lab", 1)
    requests = [Request((Message("user", (Text(str(number)),)),)) for number in range(20)]
    order: list[int] = []

    async def call(number: int) -> None:
        await Limit(model, "ab"[number % 2], gate)(requests[number], None)
        order.append(number)

    await asyncio.gather(*(call(number) for number in range(20)))
    assert order == list(range(20))


@jumping
async def test_who_needs_much_is_not_passed_for_ever_by_those_who_need_little() -> None:
    model, gate = Taking(tokens=10), Gate("lab", 64)
    gate.hear("a", RateLimits(tokens=steady(60_000, 0)))
    limit = Limit(model, "a", gate)
    much = asyncio.create_task(limit(by("much", max_tokens=30_000), None))
    await asyncio.sleep(0)
    little = [asyncio.create_task(limit(by("little", max_tokens=10), None)) for _ in range(50)]
    await asyncio.gather(much, *little)
    assert model.began[0][0] == "much"


@jumping
async def test_who_would_wait_past_its_time_fails_at_once() -> None:
    model, gate = Taking(), Gate("lab", 64)
    gate.hear("a", RateLimits(requests=steady(60, 0)))
    limit = Limit(model, "a", gate)
    ahead = [asyncio.create_task(limit(by("run", until=START + 100), None)) for _ in range(20)]
    await asyncio.sleep(0)
    with pytest.raises(ModelError, match="lab:a would have kept it waiting for 21 s, but it had 15 s") as caught:
        await limit(by("run", until=START + 15), None)
    assert caught.value.cause == "rate"
    assert now() == START
    for task in ahead[5:]:
        task.cancel()
    await asyncio.wait(ahead[5:])
    await asyncio.gather(limit(by("run", until=START + 15), None), limit(by("other", until=START + 3), None))
    await asyncio.gather(*ahead[:5])
    assert is_empty(gate, 64)


@jumping
async def test_who_has_left_holds_nobody_up() -> None:
    model, gate = Taking(), Gate("lab", 64)
    gate.hear("a", RateLimits(tokens=steady(60_000, 1000)))
    limit = Limit(model, "a", gate)
    much = asyncio.create_task(limit(by("run", max_tokens=30_000), None))
    await asyncio.sleep(0)
    few = [asyncio.create_task(limit(by("run", until=START + 60, max_tokens=100), None)) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(ModelError, match="waiting for 30 s"):
        await limit(by("run", until=START + 5, max_tokens=100), None)
    much.cancel()
    await asyncio.wait([much])
    await asyncio.gather(*few)
    await limit(by("run", until=START + 5, max_tokens=100), None)
    assert [when for _, when in model.began] == [0.0] * 6
    assert is_empty(gate, 64)


@jumping
async def test_a_call_without_an_end_does_not_wait_for_tomorrow() -> None:
    model, gate = Taking(), Gate("lab", 64)
    gate.hear("a", RateLimits(requests=Quota(14_400, 0, LONGEST_WAIT + 1)))
    with pytest.raises(ModelError, match="waiting for 301 s"):
        await Limit(model, "a", gate)(REQUEST, None)
    assert is_empty(gate, 64)


def failing_first(*errors: ModelError, seconds: float = 0.0) -> tuple[Taking, Model]:
    model, left = Taking(seconds), list(errors)

    async def call(request: Request, send: Send | None) -> Answer:
        answer = await model(request, send)
        if left:
            raise left.pop(0)
        return answer

    return model, call


@jumping
async def test_too_many_pauses_the_model_for_everybody() -> None:
    model, call = failing_first(ModelError("slow down", "rate", status=429, retry_after=20))
    gate = Gate("lab", 64)
    limit = Limit(call, "a", gate)
    with pytest.raises(ModelError, match="slow down"):
        await limit(REQUEST, None)
    await Limit(call, "b", gate)(by("other model"), None)
    await asyncio.gather(*(limit(by("later"), None) for _ in range(4)))
    assert model.began == [("", 0.0), ("other model", 0.0), *[("later", 20.0)] * 4]


@jumping
async def test_a_pause_that_is_too_long_frees_those_who_already_wait() -> None:
    model, call = failing_first(ModelError("slow down", "rate", retry_after=50), seconds=1.0)
    gate = Gate("lab", 1)
    limit = Limit(call, "a", gate)
    tasks = [asyncio.create_task(limit(by("", until=START + left), None)) for left in (9, 99, 30)]
    await asyncio.sleep(1.5)
    assert [task.done() for task in tasks] == [True, False, True]
    assert str(tasks[0].exception()) == "slow down"
    assert "waiting for 50 s, but it had 29 s" in str(tasks[2].exception())
    assert (await tasks[1]).text == "Because."
    assert model.began[-1][1] == pytest.approx(51.0)
    assert is_empty(gate, 1)


@jumping
async def test_after_too_many_without_a_time_fewer_go_at_once() -> None:
    model, call = failing_first(*(ModelError("slow down", "rate", status=429) for _ in range(8)), seconds=1.0)
    gate = Gate("lab", 64)
    limit = Limit(call, "a", gate)
    await asyncio.gather(*(limit(REQUEST, None) for _ in range(8)), return_exceptions=True)
    await asyncio.gather(*(limit(REQUEST, None) for _ in range(30)))
    began = Counter(when for _, when in model.began)
    assert [began[when] for when in (0, 1, 2, 3)] == [8, 4, 8, 16]  # half of the eight, then one more with each success
    for _ in range(70):
        await limit(REQUEST, None)
    assert not gate.lanes["a"].limited


@given(
    some.integers(1, 4),
    some.lists(
        some.tuples(
            some.sampled_from("ab"),
            some.sampled_from(["", "x", "y"]),
            some.floats(0, 20),
            some.none() | some.floats(0, 20),
            some.none() | some.floats(0, 30),
        ),
        max_size=40,
    ),
    some.lists(some.tuples(some.floats(0, 20), some.integers(0, 6), some.booleans()), max_size=5),
)
@settings(deadline=None, max_examples=150)
def test_whoever_leaves_leaves_no_trace(
    concurrency: int,
    calls: list[tuple[str, str, float, float | None, float | None]],
    told: list[tuple[float, int, bool]],
) -> None:
    """Calls come, wait, run, fail and are cancelled at any time, while limits are learnt; then nothing is left."""
    dice = random.Random(0)

    async def model(request: Request, send: Send | None) -> Answer:
        await asyncio.sleep(dice.uniform(0, 3))
        if dice.random() < 0.2:
            raise ModelError("no", "rate", status=429, retry_after=dice.choice([None, 2.0]))
        return Answer((Text("x"),), usage=Usage(5, 5))

    async def call(name: str, run: str, when: float, leave: float | None, left: float | None) -> None:
        await asyncio.sleep(when)
        until = None if left is None else now() + left
        try:
            async with asyncio.timeout(leave):
                await Limit(model, name, gate)(by(run, until=until, max_tokens=20), None)
        except (TimeoutError, ModelError):
            pass

    async def tell(when: float, remaining: int, steadily: bool) -> None:
        await asyncio.sleep(when)
        quota = Quota(6, remaining, 5.0, None, steadily)
        gate.hear("a", RateLimits(requests=quota, tokens=Quota(400, 60 * remaining, 5.0, None, steadily)))

    async def everything() -> None:
        await asyncio.gather(*(call(*one) for one in calls), *(tell(*one) for one in told))
        assert is_empty(gate, concurrency)

    gate = Gate("lab", concurrency)
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(everything())


@jumping
async def test_many_cancelled_at_once_while_others_are_let_in() -> None:
    model, gate = Taking(0.001), Gate("lab", 8)
    dice = random.Random(3)
    tasks = [asyncio.create_task(Limit(model, "a", gate)(by(str(number % 7)), None)) for number in range(2000)]
    while any(not task.done() for task in tasks):
        await asyncio.sleep(dice.choice([0, 0.001]))
        for task in dice.sample(tasks, 150):
            task.cancel()
    results = Counter(task.cancelled() or task.result().text == "" for task in tasks)
    assert results[True] > 0
    assert results[False] > 0
    assert model.most == 8
    assert is_empty(gate, 8)


@given(some.integers(1, 1000), some.integers(0, 1000), some.floats(0, 500), some.floats(0, 2000))
def test_a_wait_is_just_long_enough(limit: int, remaining: int, seconds: float, need: float) -> None:
    for is_steady in (True, False):
        bucket = Bucket(Quota(limit, min(remaining, limit), seconds, None, is_steady), START)
        wait = bucket.wait(need, START)
        assert bucket.wait(need, START + wait + 1e-6) == 0
        if wait > 1:
            again = Bucket(Quota(limit, min(remaining, limit), seconds, None, is_steady), START)
            assert again.wait(need, START + wait * 0.9) > 0


def test_a_refill_is_worked_out_from_what_is_missing() -> None:
    day = Bucket(Quota(14_400, 0, 86_400.0, None, True), 0.0)
    assert day.wait(1, 0.0) == pytest.approx(6.0)
    quick = Bucket(Quota(5000, 4999, 0.001, None, True), 0.0)
    assert quick.filling == pytest.approx(1000)
    rounded = Bucket(Quota(18_000, 17_997, 7.66, None, True), 0.0)  # too little is missing to tell
    assert rounded.filling == 300


def test_between_what_was_said_and_what_is_under_way_our_own_count_stands() -> None:
    bucket = Bucket(Quota(100, 90, 6.0, None, True), 0.0)
    bucket.take(30)
    bucket.hear(Quota(100, 80, 12.0, None, True), 0.0, 30)  # some of the 30 are in it, some not
    assert bucket.level == 60
    bucket.hear(Quota(100, 40, 36.0, None, True), 0.0, 30)  # somebody else uses the same key
    assert bucket.level == 40
    bucket.hear(Quota(100, 90, 6.0, None, True), 0.0, 0)  # nothing is under way, so it is as they say
    assert bucket.level == 90


async def test_the_head_of_a_response_tells_the_gate() -> None:
    def answer(exchange: Exchange) -> Reply:
        reply = chat()(exchange)
        head = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}
        return Reply(reply.body, reply.status, head, reply.content_type)

    refusal = status(429, "slow down", {"Retry-After": "3", "x-ratelimit-limit-tokens": "7"})
    gate = Gate("lab", 64)
    async with Server(answer, refusal) as server, Http() as http:
        model = OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name="a", told=gate.hear)
        limit = Limit(model, "a", gate)
        await limit(REQUEST, None)
        assert gate.lanes["a"].buckets[0].level == 0
        with pytest.raises(ModelError, match="waiting for 1 s, but it had 0 s"):
            await limit(by("", until=now()), None)
        gate.lanes["a"].buckets.clear()
        with pytest.raises(ModelError, match="slow down"):
            await limit(REQUEST, None)
        assert gate.lanes["a"].buckets[1].capacity == 7  # a refusal tells as much
        with pytest.raises(ModelError, match="waiting for 3 s"):
            await limit(by("", until=now() + 0.5), None)
        assert len(server.exchanges) == 2
