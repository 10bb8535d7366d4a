"""`partsong ui`: serves the web page for this machine alone, and opens it in the browser."""

import webbrowser
from threading import Thread

from partsong.cli.options import Config, Port, ServedRecipes
from partsong.cli.serve import start

HERE = "127.0.0.1"


def ui(
    *,
    port: Port = None,
    recipe: ServedRecipes = (),
    config: Config = None,
) -> int:
    """Serve the web page on this machine, and open it in the browser."""
    # Opening some browsers blocks until they are closed, so a thread does it.
    return start(
        {"host": HERE, "port": port, "workers": 1},
        recipe,
        config=config,
        ready=lambda url: Thread(target=webbrowser.open, args=(url,), daemon=True).start(),
    )
