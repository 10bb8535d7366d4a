"""Marks for a provider's prompt cache: a caller's go through to the API that has them, and what they keep is kept."""

import json
from typing import Any

import msgspec

from partsong.model import Request
from partsong.prompts import compose, instruction_for
from partsong.wire import messages
from partsong.wire.messages.request import body

TOOL = {"name": "weather", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
MARK = {"cache_control": {"type": "ephemeral"}}


def sent(asked: dict[str, Any], system: str = "") -> dict[str, Any]:
    """The body that an aggregator's provider is sent, for a request to our own /v1/messages."""
    conversation = messages.parse_request(json.dumps({"model": "m", "max_tokens": 9, **asked}).encode()).conversation
    told = compose(conversation, ("Look it up.",), "tail", instruction_for("tail"), system)
    made = body(Request(told, conversation.tools), "claude", stream=False)
    plain: dict[str, Any] = json.loads(msgspec.json.encode(made))
    return plain


def blocks(plain: dict[str, Any]) -> list[dict[str, Any]]:
    """All that a prompt is made of, in the order in which the API caches it."""
    turns = [{"role": turn["role"], **block} for turn in plain["messages"] for block in turn["content"]]
    return [*plain.get("tools", []), *plain["system"], *turns]


def unmarked(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name != "cache_control"}


def asking(steps: int) -> dict[str, Any]:
    """An agent's request after so many steps, which marks its tools, its system prompt and its last message."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "Rain?"}]}]
    for step in range(steps):
        use = {"type": "tool_use", "id": f"call_{step}", "name": "weather", "input": {}}
        result = {"type": "tool_result", "tool_use_id": f"call_{step}", "content": [{"type": "text", "text": "Yes."}]}
        turns += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    turns[-1]["content"][-1] |= MARK
    system = [{"type": "text", "text": "You help."}, {"type": "text", "text": "Be brief.", **MARK}]
    return {"tools": [TOOL], "system": system, "messages": turns}


def test_marks_are_passed_on_and_each_step_begins_as_the_one_before_ended() -> None:
    for system in ("", "You decide."):
        before: list[dict[str, Any]] = []
        for steps in range(4):
            all_blocks = blocks(sent(asking(steps), system))
            marked = [at for at, block in enumerate(all_blocks) if "cache_control" in block]
            kept = all_blocks[: marked[-1] + 1]
            assert len(marked) == 3
            assert [unmarked(block) for block in kept[: len(before)]] == before
            assert len(kept) > len(before)
            before = [unmarked(block) for block in kept]


def test_a_system_prompt_reads_the_same_with_and_without_marks() -> None:
    asked = asking(0)
    plain = asked | {"system": [unmarked(block) for block in asked["system"]]}
    for more in ("", "You decide."):
        whole = sent(plain, more)["system"]
        assert "".join(block["text"] for block in sent(asked, more)["system"]) == whole
    assert whole == "You help.\n\nBe brief.\n\nYou decide."


def test_a_mark_for_an_hour_stays_one() -> None:
    asked = asking(0)
    asked["system"][1]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
    assert sent(asked)["system"][1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


def test_of_too_many_marks_the_last_four_stay() -> None:
    texts = [{"type": "text", "text": str(number), **MARK} for number in range(6)]
    made = sent({"system": texts[:2], "messages": [{"role": "user", "content": texts[2:]}]})
    assert [block["text"].strip() for block in blocks(made) if "cache_control" in block] == ["2", "3", "4", "5"]
