"""`partsong ui`: serves the web page for this machine alone, and opens it in the browser.

The page that it opens may set the keys of providers. See `server/owner.py` for what its address proves.
"""

import os
import sys
import webbrowser
from threading import Thread

from partsong.cli.options import Config, Port, ServedRecipes
from partsong.cli.serve import start
from partsong.server.owner import VARIABLE, new_code

HERE = "127.0.0.1"


def ui(
    *,
    port: Port = None,
    recipe: ServedRecipes = (),
    config: Config = None,
) -> int:
    """Serve the web page on this machine, and open it in the browser."""
    code, os.environ[VARIABLE] = new_code()

    def ready(url: str) -> None:
        address = f"{url}/#/owner/{code}"
        print(f"partsong: the page that can take keys, once: {address}", file=sys.stderr, flush=True)
        # Opening some browsers blocks until they are closed, so a thread does it.
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    return start({"host": HERE, "port": port, "workers": 1}, recipe, config=config, ready=ready)
