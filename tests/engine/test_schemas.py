"""Schemas of callers: what they mean stays, and none of them takes the loop's time."""

import asyncio
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong.bounds import DEFAULTS, Bounds
from partsong.engine import schemas
from partsong.engine.schemas import misfit, misfits, refused
from partsong.engine.tool_calls import check_schemas
from partsong.errors import QuestionError
from partsong.model import Conversation, Tool

LARGEST, DEEPEST = DEFAULTS.schema_kilobytes * 1024, DEFAULTS.schema_nesting


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


TWICE = {"properties": {"a": {"$ref": "#"}}, "required": ["z"]}
# What takes a second or gigabytes where nobody ends it, with an answer of the model.
ENDLESS = [
    ({"anyOf": [TWICE, TWICE]}, nested(40)),
    ({"oneOf": [TWICE, TWICE, TWICE]}, nested(40)),
    ({"not": {"allOf": [{"not": TWICE}, {"not": TWICE}]}}, nested(40)),
    ({"if": TWICE, "then": TWICE, "else": TWICE}, nested(40)),
    ({"$defs": {"n": {"anyOf": [TWICE, TWICE]}}, "items": {"$ref": "#/$defs/n"}, "properties": {}}, nested(40)),
    ({"anyOf": [{"items": {"$ref": "#"}, "minItems": 9}] * 2}, "[" * 60 + "]" * 60),
]


@pytest.mark.parametrize(("schema", "text"), ENDLESS)
async def test_the_loop_goes_on_beside_a_schema_without_end(schema: Any, text: str) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(others())
    await misfit(as_json(schema), text, DEFAULTS)  # it ends, whatever it says
    beside.cancel()
    assert turns > 100


async def test_a_schema_that_takes_too_long_is_told_and_the_next_one_is_tried() -> None:
    schema, text = ENDLESS[0]
    jobs = [misfit(as_json(schema), text, DEFAULTS) for _ in range(3)]
    assert [await each for each in jobs] == ["cannot be checked against the schema within 1 s; write a simpler one"] * 3
    assert await misfit(as_json({"pattern": "^a+$"}), '"aaa"', DEFAULTS) is None


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(.*a){20}$", "^(([a-z])+.)+[A-Z]([a-z])+$"])
async def test_patterns_match_in_linear_time(pattern: str) -> None:
    schema = as_json({"type": "string", "pattern": pattern})
    assert await refused([schema], DEFAULTS) is None
    assert await misfit(schema, f'"{"a" * 5000}!"', DEFAULTS) is not None
    for keywords in ({"patternProperties": {pattern: False}}, {"propertyNames": {"pattern": pattern}}):
        await misfit(as_json(keywords), json.dumps({"a" * 5000 + "!": 1}), DEFAULTS)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (as_json({"pattern": "(?=a)b"}), "regex"),
        (as_json({"pattern": r"(a*)\1"}), "regex"),
        (as_json({"pattern": "((a{1000}){1000}){1000}"}), ""),
        (as_json({"description": "x" * LARGEST}), f"at most {LARGEST:,} are taken"),
        (b'{"not":' * (DEEPEST + 1) + b"{}" + b"}" * (DEEPEST + 1), "levels deep"),
        (b'{"enum":[' + b"[" * 5000 + b"]" * 5000 + b"]}", "levels deep"),
        (as_json({"$ref": "http://127.0.0.1:9/"}), "127.0.0.1"),
        (as_json({"$ref": "file:///etc/passwd"}), "passwd"),
        (as_json({"type": "strange"}), "no JSON Schema"),
        (b"{", "no JSON"),
    ],
)
async def test_a_schema_beyond_the_limits_is_refused_with_its_field(schema: bytes, why: str) -> None:
    tools = (Tool("fine"), Tool("look", "", schema))
    with pytest.raises(QuestionError, match=r"^tools\[1\]: the parameters of the tool look: ") as raised:
        await check_schemas(Conversation((), tools=tools), DEFAULTS)
    assert raised.value.field == "tools[1]"
    assert why in str(raised.value)
    with pytest.raises(QuestionError, match=r"^response_format: ") as raised:
        await check_schemas(Conversation((), tools=tools[:1], response_format=schema), DEFAULTS)
    assert raised.value.field == "response_format"


async def test_the_bounds_on_schemas_and_tools_can_be_set() -> None:
    tools = tuple(Tool(f"t{index}", "", as_json({"type": "object", "title": "x" * 2000})) for index in range(4))
    asked = Conversation((), tools=tools)
    await check_schemas(asked, Bounds())
    for bounds, why in (
        (Bounds(tools=3), "tools: there are 4, but at most 3 are taken"),
        (Bounds(schema_kilobytes=1), "has 2,"),
        (Bounds(schemas_kilobytes=7), "longer than 7,168 bytes together"),
    ):
        with pytest.raises(QuestionError, match=why):
            await check_schemas(asked, bounds)
    deep = Conversation((), tools=(Tool("t", "", as_json({"not": {"not": {}}})),))
    with pytest.raises(QuestionError, match="nests 3 levels deep, but at most 2 are taken"):
        await check_schemas(deep, Bounds(schema_nesting=2))
    schema, text = ENDLESS[0]
    why = "cannot be checked against the schema within 2 s; write a simpler one"
    assert await misfit(as_json(schema), text, Bounds(schema_seconds=2)) == why


async def test_many_values_are_checked_in_the_time_of_one() -> None:
    """The checks that are made before the process is ended count; the rest are told."""
    endless, text = ENDLESS[0]
    simple = as_json({"pattern": "^a+$"})
    checks = [(simple, '"aa"'), (simple, '"b"'), (as_json(endless), text), *[(simple, '"aa"')] * 50]
    found = await misfits([*checks, (b"{}", "1")], DEFAULTS)
    late = "cannot be checked against the schema within 1 s; write a simpler one"
    assert found[0] is None
    assert found[1] is not None
    assert "must match the schema" in found[1]
    assert found[2:] == [late] * 51 + [None]


async def test_what_is_kept_of_schemas_is_bounded() -> None:
    kept = schemas._validators()
    for index in range(400):
        schema = as_json({"title": f"{index}", "properties": {f"a{index}b{field}": {} for field in range(300)}})
        assert await refused([schema], DEFAULTS) is None
        assert sum(map(len, kept._made)) == kept._bytes <= schemas.COMPILED
    assert kept._made
    assert await refused([schema], DEFAULTS) is None
    assert next(reversed(kept._made)) == schema


async def test_all_schemas_together_have_a_limit() -> None:
    one = as_json({"description": "x" * 200_000})
    assert await refused([one] * 5, DEFAULTS) is None
    many = await refused([one] * (DEFAULTS.schemas_kilobytes * 1024 // len(one) + 1), DEFAULTS)
    assert many is not None
    assert "together" in many.why


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["string", "integer", "object", "array", "boolean", "null"])
SCHEMAS = st.recursive(
    st.fixed_dictionaries({}, optional={"type": TYPES, "enum": st.lists(VALUES, min_size=1, max_size=3)})
    | st.booleans()
    | st.just({"$ref": "#/$defs/d"}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            "required": st.lists(st.sampled_from("abc"), unique=True),
            "additionalProperties": inner,
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=3),
            "oneOf": st.lists(inner, min_size=1, max_size=3),
            "allOf": st.lists(inner, min_size=1, max_size=3),
            "not": inner,
            "maxItems": st.integers(0, 3),
        },
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(SCHEMAS, SCHEMAS, VALUES)
def test_what_is_tried_at_once_means_what_json_schema_means(schema: Any, target: Any, value: Any) -> None:
    whole = {"allOf": [schema], "$defs": {"d": target}}
    if schemas._size(as_json(whole)) is None:
        return  # `d` refers to itself
    fits = jsonschema_rs.validator_for(whole).is_valid(value)
    assert (schemas._quick(as_json(whole), json.dumps(value).encode()) is None) == fits


@pytest.mark.parametrize(("schema", "fits"), [({"minLength": 2}, True), ({"pattern": "^b"}, False)])
async def test_a_process_says_the_same(schema: Any, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = await misfit(as_json(schema), '"abc"', DEFAULTS)
    monkeypatch.setattr(schemas, "SMALL", 0)
    assert await misfit(as_json(schema), '"abc"', DEFAULTS) == at_once
    assert (at_once is None) == fits


@pytest.mark.parametrize("levels", [200, 256, 1000, 100_000])
async def test_a_value_that_nests_deep_harms_nobody(levels: int) -> None:
    for schema in (b"{}", as_json({"items": {"$ref": "#"}}), as_json({"uniqueItems": True})):
        try:
            await misfit(schema, "[" * levels + "]" * levels, DEFAULTS)
        except (RecursionError, ValueError) as problem:
            pytest.fail(f"{schema!r}: {problem!r}")
