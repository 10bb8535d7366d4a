"""What a caller may ask of a recipe: its size is bounded before it is built, and limits of the operator stay."""

import tomllib
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong import Agent, Aggregator, Layer, Recipe
from partsong.bounds import Bounds
from partsong.errors import RecipeError
from partsong.recipes.bounding import RULES, check_text, for_caller, most_calls, too_large
from partsong.server.pages.faults import read_recipe

BOUNDS = Bounds()
AGENTS = tuple(Agent(f"x:{name}") for name in "abc")
SERVED = Recipe("r", (Layer(AGENTS, 2, 1.0, 9.0), Layer(AGENTS, deadline=5.0)), Aggregator("x:z"), deadline=20.0)
SECONDS = st.none() | st.floats(0.1, 100)


def test_every_field_of_a_recipe_has_a_rule() -> None:
    kinds: tuple[type[msgspec.Struct], ...] = (Recipe, Layer, Agent, Aggregator)
    assert {kind: set(kind.__struct_fields__) for kind in kinds} == {kind: set(RULES[kind]) for kind in kinds}


@st.composite
def layers(draw: st.DrawFn) -> dict[str, Any]:
    seats = draw(st.integers(1, 5))
    layer: dict[str, Any] = {"agents": [{"model": "x:a", "samples": seats}]}
    if draw(st.booleans()):
        layer["quorum"] = draw(st.integers(1, seats))
        layer["grace"] = draw(SECONDS)
    return layer | {"deadline": draw(SECONDS)}


def patience(layer: Layer) -> tuple[float, float, float]:
    """How long a layer waits at most: its deadline, the answers that it waits for, and the time after them."""
    grace = float("inf") if layer.quorum is None else layer.grace or 0.0
    return layer.deadline or float("inf"), layer.quorum or float("inf"), grace


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(layers(), max_size=4), SECONDS, st.booleans(), st.booleans())
def test_a_caller_shortens_and_never_lengthens(
    given_layers: list[dict[str, Any]], deadline: float | None, strict: bool, is_strict: bool
) -> None:
    served = msgspec.structs.replace(SERVED, strict=is_strict)
    fields = {"layers": given_layers, "deadline": deadline, "strict": strict}
    made = for_caller(served, fields, BOUNDS, owner=False)
    made.__post_init__()
    assert made.deadline == min(deadline or 20.0, 20.0)
    assert made.strict == (strict or is_strict)
    for index, layer in enumerate(made.layers):
        layer.__post_init__()
        theirs, own = patience(served.layers[min(index, 1)]), patience(layer)
        assert all(mine <= limit for mine, limit in zip(own, theirs, strict=True))
        asked = msgspec.convert(given_layers[index], Layer)
        assert all(mine <= limit for mine, limit in zip(own, patience(asked), strict=True))
    free = for_caller(served, fields, BOUNDS, owner=True)
    assert (free.deadline, free.strict, len(free.layers)) == (deadline, strict, len(given_layers))


def test_a_caller_cannot_raise_the_money_or_rename() -> None:
    served = msgspec.structs.replace(SERVED, max_dollars=Decimal("0.5"))
    for dollars in (None, "7", "0.5"):
        assert str(for_caller(served, {"max_dollars": dollars}, BOUNDS, owner=False).max_dollars) == "0.5"
    with pytest.raises(RecipeError, match="name: cannot be replaced"):
        for_caller(served, {"name": "other"}, BOUNDS, owner=True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"layers": [{"agents": ["x:a"]}] * 33}, "33, but at most 32"),
        ({"layers": [{"agents": ["x:a"]}] * 3000}, "3,000, but at most 32"),
        ({"layers": [{"agents": [{"model": "x:a", "samples": 257}]}]}, "257 seats"),
        ({"layers": [{"agents": [{"model": "x:a", "samples": 1000}]}] * 20}, "20,000 seats"),
        ({"instruction": "x" * 70_000}, "70,018 characters"),
        ({"about": "é" * 66_000}, "characters"),
        ({"layers": [[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}, "deeper than 16"),
    ],
)
@pytest.mark.parametrize("owner", [True, False])
def test_what_is_too_large_is_refused(fields: dict[str, Any], said: str, owner: bool) -> None:
    with pytest.raises(RecipeError, match=said):
        for_caller(SERVED, fields, BOUNDS, owner=owner)


def test_a_recipe_of_the_operator_may_be_larger_and_be_changed() -> None:
    large = Recipe("large", (Layer((Agent("x:a", 400),)),) * 40, Aggregator("x:z"))
    assert too_large(large, BOUNDS) is not None
    assert for_caller(large, {"fit": "fail"}, BOUNDS, owner=False).fit == "fail"
    with pytest.raises(RecipeError, match="41, but at most 40"):
        for_caller(large, {"layers": [{"agents": ["x:a"]}] * 41}, BOUNDS, owner=False)


def test_most_calls_counts_fallbacks_steps_and_attempts() -> None:
    layer = Layer((Agent("x:a", 3, fallback=("x:b",)), Agent("x:c")))
    whole = Recipe("r", (layer, layer), Aggregator("x:z", fallback=("x:y",)))
    assert most_calls(whole, 1) == 7 * 2 + 2 * 2
    assert most_calls(msgspec.structs.replace(whole, fit="window"), 3) == 3 * (14 + (4 + 2) * 2)


LONG = BOUNDS.recipe_characters
HOSTILE = {
    "a dotted key": ".".join(["a"] * (LONG // 2)) + "=1",
    "a quoted key": ".".join(['"a"'] * (LONG // 4)) + "=1",
    "a spaced key": " . ".join(["a"] * (LONG // 4)) + "=1",
    "many dotted keys": "\n".join(".".join(["a"] * 99) + f".b{number}=1" for number in range(300)),
    "a dotted header": "[" + ".".join(["a"] * (LONG // 2 - 1)) + "]",
    "an inline key": "a={" + ".".join(["b"] * (LONG // 2 - 9)) + "=1}",
    "lists": "a=" + "[" * (LONG // 2 - 2) + "]" * (LONG // 2 - 2),
    "tables": "a=" + "{a=" * (LONG // 4 - 9) + "1" + "}" * (LONG // 4 - 9),
    "a string before": 'x="""\\""" """\n' + ".".join(["a"] * (LONG // 4)) + "=1",
    "a comment before": "# \"\"\"\n# '''\n" + ".".join(["a"] * (LONG // 4)) + "=1",
    "too long": "#" * (LONG + 1),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_text_is_never_parsed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(text: str, /, **_: Any) -> None:
        raise AssertionError("the text was parsed")

    monkeypatch.setattr(tomllib, "loads", parse)
    recipe, (fault,) = read_recipe(text)
    assert recipe is None
    assert "deeper than 16 levels" in fault.message or "at most 65,536" in fault.message


PIECES = ["a.", "a", ".", '"', '"""', "'", "'''", "\\", "\n", " ", "[", "]", "{", "}", "=", ",", "#", "1", "é", "\x00"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join))
def test_no_repeated_text_is_a_problem(piece: str) -> None:
    """Texts of 4,000 repetitions are read in linear time (a quadratic one would take minutes for all of them)."""
    read_recipe((piece * 4000)[:LONG])


def test_ordinary_texts_are_not_too_deep() -> None:
    system = "Look at a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r and [[[[[[[[[[[[[[[[[[[[ ... ]]]]"
    text = f"""name = "x"
instruction = \"\"\"{system}\"\"\"
[[layers]]
agents = [{{ model = "x:a", system = '{system}' }}] # {system}
[aggregator]
model = "x:z"
"""
    check_text(text, BOUNDS)
    recipe, faults = read_recipe(text)
    assert faults == []
    assert recipe is not None
