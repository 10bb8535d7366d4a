"""Cuts the tracebacks of calls that have failed, so that no reference cycle keeps alive what their run has heard.

A traceback refers to the frames that its error has passed. A frame refers to tasks and timeouts, and these refer to the
error of their task. So what an answer has brought so far, up to megabytes, would live until the garbage collector
visits its oldest objects, which a server with many runs can rarely afford.

So whoever handles the error of a model cuts its traceback first. The frames themselves are not cleared: two runs may
share an error, and one of them may still be handling it.
"""

import asyncio
from typing import Any

from partsong.errors import ModelError


def let_go(task: asyncio.Task[Any]) -> None:
    """Cut the traceback of a task that was cancelled or whose model has failed. A callback for tasks that have ended.

    Any other exception is a fault of the program, and keeps its traceback.
    """
    try:
        error = task.exception()
    except asyncio.CancelledError as cancelled:
        cut(cancelled)
        return
    if isinstance(error, ModelError):
        cut(error)


def cut(error: BaseException) -> None:
    """Cut the tracebacks of an error, and of the errors that led to it."""
    seen, errors = set[int](), [error]
    while errors:
        each = errors.pop()
        if id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            errors += [cause for cause in (each.__context__, each.__cause__) if cause is not None]
