"""Performs a recipe on a conversation: `perform`, `stream` and `run`, and a file for each rule of a run.

The three functions are imported at their first use, so that a program that needs one rule does not load the whole
engine.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partsong.engine.engine import perform, run, stream

__all__ = ["perform", "run", "stream"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from partsong.engine import engine

    value = globals()[name] = getattr(engine, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
