"""`partsong mcp`: serves recipes as tools of the Model Context Protocol, over standard input and output.

`partsong mcp files FOLDER` serves the files of a folder instead, for models that look things up.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import replace

from partsong.cli.loop import complete
from partsong.cli.options import Config, ServedRecipes, Store
from partsong.configuration import Configuration, find_configuration
from partsong.errors import ConfigurationError, InputError
from partsong.recipes.finding import named_recipe


def mcp(
    *files: Annotated[str, Parameter(help="files FOLDER serves the files of a folder, to be read and not changed.")],
    recipe: ServedRecipes = (),
    store: Store = None,
    config: Config = None,
) -> int:
    """Serve recipes, or the files of a folder, as tools of the Model Context Protocol."""
    configuration = find_configuration(config)
    if files:
        if len(files) != 2 or files[0] != "files":
            raise InputError(f"mcp takes no arguments, or files FOLDER, but got: {' '.join(files)}")
        if recipe or store is not None:
            raise InputError("mcp files FOLDER serves files alone, and takes neither --recipe nor --store")
        return serve_files(Path(files[1]), configuration)
    if recipe:
        configuration = replace(configuration, server=replace(configuration.server, recipes=recipe))
    for name in configuration.server.recipes:
        if not Path(name).is_dir():
            named_recipe(name)
    try:
        from partsong.server.mcp import make_server
    except ModuleNotFoundError as missing:
        raise _without_library(missing) from None
    complete(make_server(configuration, store).run_stdio_async())
    return 0


def serve_files(path: Path, configuration: Configuration) -> int:
    """Serve the files of a folder. Raises `FolderError`, an `InputError`, if there is no such folder."""
    try:
        from partsong.tools.files import make_files_server
        from partsong.tools.folder import Folder
    except ModuleNotFoundError as missing:
        raise _without_library(missing) from None
    complete(make_files_server(Folder(path, configuration.documents)).run_stdio_async())
    return 0


def _without_library(missing: ModuleNotFoundError) -> Exception:
    """The error for a missing library: what to install if it is that of the protocol, else the error itself."""
    if (missing.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
        return missing
    return ConfigurationError("mcp needs the extra `mcp`: pip install 'partsong[mcp]'")
