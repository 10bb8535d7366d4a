"""`partsong mcp`: serves recipes as tools of the Model Context Protocol, over standard input and output."""

from pathlib import Path

from msgspec.structs import replace

from partsong.cli.loop import complete
from partsong.cli.options import Config, ServedRecipes, Store
from partsong.configuration import find_configuration
from partsong.errors import ConfigurationError
from partsong.recipes.finding import named_recipe


def mcp(
    *,
    recipe: ServedRecipes = (),
    store: Store = None,
    config: Config = None,
) -> int:
    """Serve recipes as tools of the Model Context Protocol."""
    configuration = find_configuration(config)
    if recipe:
        configuration = replace(configuration, server=replace(configuration.server, recipes=recipe))
    for name in configuration.server.recipes:
        if not Path(name).is_dir():
            named_recipe(name)
    try:
        from partsong.server.mcp import make_server
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "mcp":
            raise
        raise ConfigurationError("mcp needs the extra `mcp`: pip install 'partsong[mcp]'") from None
    complete(make_server(configuration, store).run_stdio_async())
    return 0
