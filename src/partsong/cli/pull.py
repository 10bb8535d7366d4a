"""`partsong pull`: downloads the weights of local models before they are needed."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from partsong.assembly import access
from partsong.cli.ask import choose
from partsong.cli.downloads import Downloads
from partsong.cli.loop import complete
from partsong.cli.options import Config
from partsong.configuration import find_configuration, known_providers
from partsong.folders import weights_folder
from partsong.weights.fetch import ensure


def pull(
    *names: Annotated[
        str,
        Parameter(
            help="Local model, or owner/repository/file.gguf on the Hugging Face hub. Default: the default recipe's."
        ),
    ],
    config: Config = None,
) -> int:
    """Download the weights of the named local models, or of those in the default recipe."""
    wanted = [name.removeprefix("local:") for name in names] or of_default_recipe(config)
    for path in complete(fetched(wanted)):
        print(path)
    return 0


def of_default_recipe(config: Path | None) -> list[str]:
    """Return the names of the local models in the default recipe. `config` is the configuration file, if given."""
    configuration = find_configuration(config)
    providers = known_providers() | configuration.providers
    ids = (name.partition(":") for name in choose(None, None, configuration).models)
    return [model for provider, _, model in ids if provider in providers and providers[provider].api == "local"]


async def fetched(names: list[str]) -> list[Path]:
    """Download the weights of the named models, one after another, and return the paths of their files."""
    with Downloads(sys.stderr) as downloads:
        return [
            await ensure(name, weights_folder(), progress=downloads.hear, access=access())
            for name in dict.fromkeys(names)
        ]
