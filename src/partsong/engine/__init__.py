"""A run, from its checks to its end: `perform`, `stream` and `run`, and one file beside them for each rule of a run.

The three names are imported when they are first asked for: whoever needs one rule does not pay for the whole engine.
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
