"""Fields that an agent passes on to its provider: they reach the body, and replace nothing."""

from typing import Any

import pytest

from partsong.bounds import DEFAULTS
from partsong.errors import ModelError, RecipeError
from partsong.model import Request, Sampling, asking
from partsong.recipe import Agent, Aggregator, Layer, Recipe
from partsong.recipes.bounding import for_caller, foreign
from partsong.wire import chat, messages

QUESTION = asking("?").messages


@pytest.mark.parametrize("wire", [chat, messages])
def test_the_fields_reach_the_body_and_nothing_else_changes(wire: Any) -> None:
    plain = wire.body(Request(QUESTION), "m", stream=False)
    more = wire.body(Request(QUESTION, extra={"plugins": [{"id": "web"}]}), "m", stream=False)
    assert more == plain | {"plugins": [{"id": "web"}]}


@pytest.mark.parametrize("wire", [chat, messages])
def test_a_field_of_the_same_request_is_not_replaced(wire: Any) -> None:
    request = Request(QUESTION, sampling=Sampling(temperature=0.5), extra={"temperature": 1})
    with pytest.raises(ModelError, match=r"extra\.temperature would replace what partsong sets itself") as refused:
        wire.body(request, "m", stream=False)
    assert refused.value.cause == "refused"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"extra": {"model": "other"}}, "extra.model would replace"),
        ({"extra": {"max_completion_tokens": 9}}, "extra.max_completion_tokens would replace"),
        ({"extra": {"tools": []}, "tools": ("web",)}, "extra.tools would replace"),
        ({"extra": {"a": "x" * 20_000}}, "extra has 20,008 bytes"),
        ({"extra": {"a": object()}}, "extra has a value that JSON cannot hold"),
    ],
)
def test_what_can_never_be_passed_on_is_refused_when_the_recipe_is_read(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told.replace(".", r"\.")):
        Agent("a:b", **fields)


def test_a_request_passes_on_only_what_the_served_recipe_passes_on() -> None:
    extra = {"plugins": [{"id": "web"}]}
    served = Recipe("r", (Layer((Agent("a:b", extra=extra),)),), Aggregator("a:c"))
    kept = {"layers": [{"agents": [{"model": "a:d", "extra": extra}]}]}
    assert for_caller(served, kept, DEFAULTS, owner=False).layers[0].agents[0].extra == extra
    with pytest.raises(RecipeError, match="a request cannot pass further fields on to a provider"):
        for_caller(served, {"aggregator": {"model": "a:c", "extra": {"route": "x"}}}, DEFAULTS, owner=True)
    assert foreign(served) == (
        "extra",
        "a request cannot pass further fields on to a provider: only recipes in files of the operator do so",
    )
