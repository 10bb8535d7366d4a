"""The list of models: the recipes, each with the smallest context window of its models.

An entry has the fields of OpenAI's list and those of Anthropic's, because both use the path `/v1/models`.
"""

from typing import Any

from partsong.keys import Key
from partsong.recipe import Recipe
from partsong.server.problems import ProblemError
from partsong.server.service import Service
from partsong.wire.reply import Problem


def listed(service: Service, key: Key | None) -> dict[str, Any]:
    """The body of `GET /v1/models`: an entry for each recipe that the key may use."""
    entries = [entry(service, recipe) for recipe in service.recipes.values() if allowed(recipe.name, key)]
    ends = (entries[0]["id"], entries[-1]["id"]) if entries else (None, None)
    return {"object": "list", "data": entries, "has_more": False, "first_id": ends[0], "last_id": ends[1]}


async def found(service: Service, name: str, key: Key | None) -> dict[str, Any]:
    """The entry of a recipe or of a single model. Raises `ProblemError` if the key may use neither."""
    service.check_id(name, "model")
    if allowed(name, key):
        if name in service.recipes:
            return entry(service, service.recipes[name])
        if ":" in name and service.serving.models:
            from partsong.recipe import single

            await service.naming.check((name,), "model")
            service.assembly.check((name,))
            return entry(service, single(name))
    raise ProblemError(Problem(404, "not_found", f'there is no model "{name}"', "model", "model_not_found"))


def entry(service: Service, recipe: Recipe) -> dict[str, Any]:
    window = window_of(service, recipe)
    date = recipe.date.isoformat() if recipe.date is not None else "2024-06-07"
    return {
        "id": recipe.name,
        "object": "model",
        "type": "model",
        "created": 1_717_718_400,
        "created_at": f"{date}T00:00:00Z",
        "owned_by": "partsong",
        "display_name": recipe.about or recipe.name,
        "context_window": window,
        "context_length": window,
        "max_input_tokens": window,
        "partsong": {"layers": len(recipe.layers) + 1, "calls": recipe.calls, "models": list(recipe.models)},
    }


def window_of(service: Service, recipe: Recipe) -> int | None:
    """The smallest context window of the recipe's models, in tokens; `None` if no window is known."""
    windows = [window for name in recipe.models if (window := service.assembly.window(name)) is not None]
    return min(windows, default=None)


def allowed(name: str, key: Key | None) -> bool:
    """Whether the key may use the recipe or model called `name`. A server without keys (`None`) allows all."""
    return key is None or not key.recipes or name in key.recipes
