"""The server: every recipe, and every single model, behind the APIs that clients already speak.

`partsong.server.app` is an ordinary ASGI application; `partsong serve` runs it, and any other ASGI server can. It is
made when it is first asked for, and reads its configuration when it starts.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from partsong.server.application import make_app
    from partsong.server.settings import server_settings

    app = make_app(server_settings)
    globals()["app"] = app
    return app
