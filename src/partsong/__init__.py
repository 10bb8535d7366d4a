"""Mixture-of-Agents: several models propose answers, later layers improve them, and an aggregator gives the answer.

A public name is imported when a program first uses it, so that `partsong --help` does not load the engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partsong.assembly import assemble, open_tools
    from partsong.configuration import Configuration, find_configuration, read_configuration
    from partsong.engine import perform, run, stream
    from partsong.errors import (
        BudgetError,
        ConfigurationError,
        InputError,
        ModelError,
        PartsongError,
        QuestionError,
        RecipeError,
        RunError,
        StoreError,
        WeightsError,
    )
    from partsong.model import (
        Answer,
        Conversation,
        Delta,
        Document,
        Image,
        Message,
        Model,
        Reasoning,
        ReasoningDelta,
        Request,
        Sampling,
        Send,
        Text,
        TextDelta,
        Tool,
        ToolCall,
        ToolCallDelta,
        ToolResult,
        Usage,
        asking,
    )
    from partsong.recipe import Agent, Aggregator, Analyst, Layer, Recipe, single
    from partsong.recipes.finding import find_recipe
    from partsong.store import open_store
    from partsong.transcript import Transcript

__all__ = [
    "Agent",
    "Aggregator",
    "Analyst",
    "Answer",
    "BudgetError",
    "Configuration",
    "ConfigurationError",
    "Conversation",
    "Delta",
    "Document",
    "Image",
    "InputError",
    "Layer",
    "Message",
    "Model",
    "ModelError",
    "PartsongError",
    "QuestionError",
    "Reasoning",
    "ReasoningDelta",
    "Recipe",
    "RecipeError",
    "Request",
    "RunError",
    "Sampling",
    "Send",
    "StoreError",
    "Text",
    "TextDelta",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolResult",
    "Transcript",
    "Usage",
    "WeightsError",
    "asking",
    "assemble",
    "find_configuration",
    "find_recipe",
    "open_store",
    "open_tools",
    "perform",
    "read_configuration",
    "run",
    "single",
    "stream",
]

_HOMES = {
    "assembly": ("assemble", "open_tools"),
    "configuration": ("Configuration", "find_configuration", "read_configuration"),
    "engine": ("perform", "run", "stream"),
    "store": ("open_store",),
    "recipe": ("Agent", "Aggregator", "Analyst", "Layer", "Recipe", "single"),
    "recipes.finding": ("find_recipe",),
    "transcript": ("Transcript",),
    "errors": tuple(name for name in __all__ if name.endswith("Error")),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "model")
    value = globals()[name] = getattr(import_module(f"partsong.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
