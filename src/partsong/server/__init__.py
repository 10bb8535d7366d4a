"""The model server: it serves recipes and single models behind the APIs of OpenAI and Anthropic.

`partsong.server.app` is an ASGI application. `partsong serve` runs it, and any other ASGI server can. The first access
makes the application, which reads its configuration when it starts.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from partsong.server.application import make_app
    from partsong.server.owner import told_owner
    from partsong.server.settings import server_settings

    app = make_app(server_settings, owner=told_owner())
    globals()["app"] = app
    return app
