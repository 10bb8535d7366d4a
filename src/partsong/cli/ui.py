"""`partsong ui`: the server for this machine alone, and its page in the browser as soon as it is there."""

import webbrowser
from pathlib import Path
from threading import Thread
from typing import Annotated

from cyclopts import Parameter

from partsong.cli.serve import start

HERE = "127.0.0.1"


def ui(
    *,
    port: Annotated[int | None, Parameter(metavar="N", help="8080, if not said; 0 for any that is free.")] = None,
    recipe: Annotated[
        tuple[str, ...],
        Parameter(
            name=("--recipe", "-r"),
            metavar="NAME|FILE",
            consume_multiple=False,
            help="Serve this recipe, and no other; may be repeated.",
        ),
    ] = (),
    config: Annotated[Path | None, Parameter(metavar="FILE", help="This configuration, and no other.")] = None,
) -> int:
    """Serve the web page on this machine, and open it in the browser."""
    # Some browsers do not come back until they are closed.
    return start(
        {"host": HERE, "port": port, "workers": 1},
        recipe,
        config=config,
        ready=lambda url: Thread(target=webbrowser.open, args=(url,), daemon=True).start(),
    )
