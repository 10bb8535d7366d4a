"""JSON in a code fence is JSON: whole, in pieces cut anywhere, and through a whole run."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.bounds import DEFAULTS
from partsong.engine.code_fence import CodeFence, without_code_fence
from partsong.engine.tool_calls import fault_of, kept
from partsong.model import ANY_OBJECT, Answer, Conversation, Message, Text

CASES = [
    ('```json\n{"a": 1}\n```', '{"a": 1}'),
    ('```JSON\r\n{"a": 1}\r\n```\n', '{"a": 1}'),
    ('\n ```\n{"a": 1}\n ``` \n\n', '{"a": 1}'),
    ('```json\n{"a": "```\\n"}\n```', '{"a": "```\\n"}'),
    ('```json\n{"a": 1}', '{"a": 1}'),
    ('{"a": 1}', '{"a": 1}'),
    ('  {"a": "`"}\n', '  {"a": "`"}\n'),
    ("```python\nprint()\n```", "```python\nprint()\n```"),
    ("````\n{}\n````", "````\n{}\n````"),
    ("```json", "```json"),
    ('```json\n{"a": 1}\n````', '{"a": 1}\n````'),
    ('```json\n{"a": 1}\n```\nThere.', '{"a": 1}\n```\nThere.'),
    ("", ""),
    ("```json\n" + " " * 5000 + "{}", " " * 5000 + "{}"),
]


@pytest.mark.parametrize(("text", "wanted"), CASES)
@given(data=st.data())
def test_a_fence_is_taken_off_wherever_the_text_is_cut(text: str, wanted: str, data: Any) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    fence = CodeFence()
    assert "".join([*map(fence.take, pieces), fence.rest()]) == wanted
    parts = without_code_fence(tuple(map(Text, pieces)))
    assert "".join(part.text for part in parts if isinstance(part, Text)) == wanted


async def test_an_answer_that_is_to_be_json_may_stand_in_a_fence() -> None:
    conversation = Conversation((Message("user", (Text("?"),)),), response_format=ANY_OBJECT)
    fenced = Answer((Text("```json\n{}\n```"),))
    answer = Answer(kept(conversation, fenced.parts))
    assert answer.text == "{}"
    assert await fault_of(conversation, answer, DEFAULTS) is None
    prose = Conversation(conversation.messages)
    assert kept(prose, fenced.parts) == fenced.parts
