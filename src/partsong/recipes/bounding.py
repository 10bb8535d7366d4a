"""What a caller of the server may ask of a recipe: how large it may be, and which limits of the operator's recipe stay.

A caller may write a recipe, as TOML text or as fields that replace fields of a served recipe. Its size is bounded
before anything is built from it. The operator's own recipes have no such bounds, and a caller may always use as many
layers, seats and calls as the recipe that the request names.

`RULES` decides for each field whether a caller who shows a key may replace it freely. A caller on a server without keys
is the operator, and may replace everything but the name.
"""

import re
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from partsong.bounds import Bounds
from partsong.errors import RecipeError
from partsong.ids import shown
from partsong.recipe import Agent, Aggregator, Analyst, Layer, Recipe
from partsong.recipes.reading import overridden

# free: the caller's value holds
# lowered: the lower value holds, and no value is higher than any
# kept: a value that is true in the operator's recipe stays true
# inside: the rules of its parts hold
# refused: the field cannot be replaced
# named: only what the operator's recipe names can be named, whoever the caller is
Rule = Literal["free", "lowered", "kept", "inside", "refused", "named"]
AGENT: dict[str, Rule] = {
    "model": "free",  # which models a caller may name is decided elsewhere
    "samples": "free",
    "temperature": "free",
    "top_p": "free",
    "max_tokens": "free",
    "seed": "free",
    "stop": "free",
    "system": "free",
    "fallback": "free",
    "effort": "free",
    "instruction": "free",
    "tools": "named",
    "steps": "free",
    "extra": "named",
}
RULES: dict[type, dict[str, Rule]] = {
    Recipe: {
        "name": "refused",
        "layers": "inside",
        "analyst": "inside",
        "aggregator": "inside",
        "about": "free",
        "date": "free",
        "layout": "free",
        "instruction": "free",
        "deadline": "lowered",
        "reserve": "free",
        "max_dollars": "lowered",
        "strict": "kept",
        "fit": "free",
        "last_resort": "free",
        "seed": "free",
        "advice": "free",
        "same": "free",
    },
    Layer: {
        "agents": "inside",
        "quorum": "lowered",
        "grace": "lowered",
        "deadline": "lowered",
        "sees": "free",
        "comments": "free",
        "agree": "free",
        "at_once": "free",
        "instruction": "free",
    },
    Agent: AGENT,
    Analyst: AGENT,
    Aggregator: {**AGENT, "method": "free", "majority": "free", "otherwise": "free"},
}

_OPERATORS = "only recipes in files of the operator"
BARE = r"[A-Za-z0-9_+-]++"
STRING = r'"(?:[^"\\\n]|\\.)*+"|' + r"'[^'\n]*+'"
KEY = rf"(?>{BARE}|{STRING})"
BLOCK = r'"""(?:[^"\\]|\\[\s\S]|"(?!""))*+"{3,5}|' + r"'''(?:[^']|'(?!''))*+'{3,5}"
DOT = r"[ \t]*+\.[ \t]*+"


def for_caller(recipe: Recipe, fields: dict[str, Any], bounds: Bounds, *, owner: bool) -> Recipe:
    """The recipe with the fields of a caller in place of its own, as far as the bounds and `RULES` allow.

    fields: new values, by the name of the field
    owner: whether the caller is the operator, whom no rule binds

    Raises `RecipeError` if a field is wrong, or if the recipe is too large.
    """
    check_fields(fields, bounds)
    changed = overridden(recipe, fields)
    if wrong := too_large(changed, bounds, recipe) or foreign(changed, recipe):
        raise RecipeError(": ".join(wrong))
    return changed if owner else limited(changed, recipe)


def foreign(recipe: Recipe, served: Recipe | None = None) -> tuple[str, str] | None:
    """The field and the reason if the recipe of a caller has what only recipes of the operator may have.

    These are servers with tools, and further fields for providers, which may cost money that nobody counts.

    served: the recipe that the request names, whose servers and fields may be named; `None` (default) if there is none
    """
    known = () if served is None else served.tools
    if unknown := [name for name in recipe.tools if name not in known]:
        return "tools", f'a request cannot name the server "{shown(unknown[0])}": {_OPERATORS} name servers with tools'
    passed_on = [] if served is None else [agent.extra for agent in served.agents]
    if any(agent.extra and agent.extra not in passed_on for agent in recipe.agents):
        return "extra", f"a request cannot pass further fields on to a provider: {_OPERATORS} do so"
    return None


def check_fields(fields: dict[str, Any], bounds: Bounds) -> None:
    """Raise `RecipeError` if the fields are too long or nested too deeply, before anything is built from them."""
    if nesting(fields, bounds.recipe_nesting) > bounds.recipe_nesting:
        raise RecipeError(f"the fields are nested deeper than {bounds.recipe_nesting} levels")
    length = len(msgspec.json.encode(fields).decode())
    if length > bounds.recipe_characters:
        raise RecipeError(f"the fields have {length:,} characters, but at most {bounds.recipe_characters:,} are taken")


def nesting(value: Any, most: int) -> int:
    """The nesting of lists and tables in `value`; what is deeper than `most` is not visited."""
    if not isinstance(value, dict | list) or most < 0:
        return 0
    parts = value.values() if isinstance(value, dict) else value
    return 1 + max((nesting(part, most - 1) for part in parts), default=0)


def check_text(text: str, bounds: Bounds) -> None:
    """Raise `RecipeError` if a TOML text is too long, or if its values or dotted keys are nested too deeply.

    The parser of the standard library takes time and memory in the square of the parts of a dotted key.
    """
    most = bounds.recipe_characters
    if len(text) > most:
        raise RecipeError(f"the text has {len(text):,} characters, but a recipe has at most {most:,}")
    deepest, depth = bounds.recipe_nesting, 0
    keys = rf"(?P<deep>{KEY}(?:{DOT}{KEY}){{{deepest}}})|{KEY}(?:{DOT}{KEY})*+"
    endless = "(?P<block>\"\"\"|''')", "(?P<string>[\"'])"
    brackets = r"(?P<opens>[\[{])|(?P<closes>[\]}])"
    tokens = re.compile(rf"{BLOCK}|{endless[0]}|{keys}|{endless[1]}|#[^\n]*+|{brackets}|[\s=,.]++|[\s\S]")
    for token in tokens.finditer(text):
        if token.lastgroup == "opens":
            depth += 1
        elif token.lastgroup == "closes":
            depth = max(0, depth - 1)
        elif token.lastgroup in ("block", "string"):
            return  # a string without an end: the parser stops here
        if token.lastgroup == "deep" or depth > deepest:
            line = text.count("\n", 0, token.start()) + 1
            raise RecipeError(f"this cannot be read: line {line} is nested deeper than {deepest} levels")


def too_large(recipe: Recipe, bounds: Bounds, served: Recipe | None = None) -> tuple[str, str] | None:
    """The field and the reason if the recipe of a caller is too large; `None` if it is not.

    served: the recipe that the request names, whose own size is always allowed; `None` (default) if there is none
    """
    layers, seats = bounds.recipe_layers, bounds.recipe_seats
    if served is not None:
        layers, seats = max(layers, len(served.layers)), max(seats, seats_of(served))
    if (number := len(recipe.layers)) > layers:
        return "layers", f"there are {number:,}, but at most {layers:,} are taken"
    if (number := seats_of(recipe)) > seats:
        return "layers", f"they have {number:,} seats together, but at most {seats:,} are taken"
    return None


def seats_of(recipe: Recipe) -> int:
    """The seats of all layers."""
    return sum(agent.samples for layer in recipe.layers for agent in layer.agents)


def most_calls(recipe: Recipe, attempts: int) -> int:
    """The most calls to models that a run of the recipe can lead to.

    attempts: how often one call is tried at most

    Each seat may ask its fallbacks, and each model once more for each round of tool calls. The analyst may be asked
    once more without a schema, like each of its fallbacks. The aggregator may read in as many steps as there are
    proposals and comments, may be asked once more for an answer that fits its schema, and may ask its fallbacks each
    time.
    """
    agents = [agent for layer in recipe.layers for agent in layer.agents]
    seats = sum(agent.samples * len(agent.models) * (1 + agent.rounds) for agent in agents)
    analyst = 0 if recipe.analyst is None else 2 * len(recipe.analyst.models) * (1 + recipe.analyst.rounds)
    read = recipe.layers[recipe.last_proposers :] if recipe.last_proposers is not None and recipe.in_steps else ()
    steps = sum(agent.samples for layer in read for agent in layer.agents)
    last = (steps + 2 + recipe.aggregator.rounds) * len(recipe.aggregator.models)
    return attempts * (seats + analyst + last)


def limited(recipe: Recipe, served: Recipe) -> Recipe:
    """The recipe with every limit of the served recipe that a caller may lower and not raise.

    A layer keeps the limits of the layer with the same index; further layers keep those of the last one.
    """
    changes: dict[str, Any] = {name: _kept(recipe, served, name) for name in RULES[Recipe]}
    if served.layers:
        last = len(served.layers) - 1
        changes["layers"] = tuple(
            _limited_layer(layer, served.layers[min(index, last)]) for index, layer in enumerate(recipe.layers)
        )
    return replace(recipe, **changes)


def _limited_layer(layer: Layer, served: Layer) -> Layer:
    if layer == served:
        return layer
    changes = {name: _kept(layer, served, name) for name in RULES[Layer]}
    if changes["quorum"] is None:
        return replace(layer, **changes)
    # Without `grace`, the other seats have no time after the quorum. A layer without a quorum waits for all its seats.
    changes["quorum"] = min(changes["quorum"], sum(agent.samples for agent in layer.agents))
    own = float("inf") if layer.quorum is None else layer.grace or 0.0
    theirs = float("inf") if served.quorum is None else served.grace or 0.0
    changes["grace"] = min(own, theirs)
    return replace(layer, **changes)


def _kept(changed: Recipe | Layer, served: Recipe | Layer, name: str) -> Any:
    """The value of a field after its rule."""
    value, limit = getattr(changed, name), getattr(served, name)
    match RULES[type(served)][name]:
        case "lowered":
            given = [each for each in (value, limit) if each is not None]
            return min(given, default=None)
        case "kept":
            return value or limit
        case _:
            return value
