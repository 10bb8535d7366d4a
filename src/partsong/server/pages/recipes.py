"""The routes to show, check and save recipes.

Saving writes a file on the server's machine, or into the database that servers on several hosts share. So only a server
without keys that listens on loopback saves recipes, and files only into the folder of the user's own recipes.
"""

import asyncio
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.configuration import Configuration
from partsong.errors import ConfigurationError, InputError, RecipeError
from partsong.files import PRIVATE, write_file
from partsong.folders import recipes_folder
from partsong.ids import shown as shown_id
from partsong.recipe import Recipe
from partsong.recipes.finding import is_shipped, source_named, source_of
from partsong.server.bodies import Body
from partsong.server.listing import allowed
from partsong.server.offered import Found
from partsong.server.pages.faults import Fault, read_recipe
from partsong.server.pages.overview import known, recipe_of
from partsong.server.pages.price import price_of
from partsong.server.pages.request import read_json, said, who, wrong
from partsong.server.problems import ProblemError
from partsong.server.service import Service
from partsong.server.shared_recipes import SharedRecipes
from partsong.wire.reply import Problem

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
# Windows takes these names for devices, with any extension.
DEVICES = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE)

NOTHING = {"drawn": None, "calls": 0, "typical_dollars": None, "worst_dollars": None}  # of a text that is no recipe

EXACT = 2**53 - 1  # JavaScript rounds larger whole numbers


class Written(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request to check or save a recipe.

    toml: the text of the recipe
    replace: whether the text may replace an existing recipe (default: no)
    """

    toml: str
    replace: bool = False


class Recipes:
    """The recipes that the caller may use."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service
        self.turn = asyncio.Lock()

    def routes(self) -> list[Route]:
        return [
            Route("/api/recipes/check", self.check, methods=["POST"]),
            Route("/api/recipes/{name:path}", self.one, methods=["GET"]),
            Route("/api/recipes/{name:path}", self.save, methods=["PUT"]),
            Route("/api/recipes/{name:path}", self.delete, methods=["DELETE"]),
        ]

    async def one(self, request: Request) -> Response:
        """A recipe with its text."""
        service, name = self.service(), request.path_params["name"]
        key = who(request, service)
        await service.look_for_saved()
        if name not in known(service) or not allowed(name, key):
            raise ProblemError(Problem(404, "not_found", f'there is no recipe "{shown_id(name)}"', "name"))
        recipe = recipe_of(service, name)
        if service.saved is not None and name in service.saved.texts:
            return await self.shared(service, service.saved, name)
        source = service.shelf[name].source if name in service.shelf else str(recipes_folder() / f"{name}.toml")
        try:
            text = await asyncio.to_thread(source_of, source)
        except (RecipeError, OSError, UnicodeDecodeError) as problem:  # the file has changed since the server read it
            raise wrong(f"the file of the recipe can no longer be read: {problem}", "name", 409) from None
        about = {"name": name, "about": "" if recipe is None else recipe.about, "toml": text, "saved": is_own(source)}
        if recipe is None:  # a file of the user's own that is no recipe
            return said(about | NOTHING | {"unusable": service.unusable[name]})
        return said(about | await shown(service, recipe, service.unusable.get(name)))

    async def shared(self, service: Service, saved: SharedRecipes, name: str) -> Response:
        """A recipe of the database with its text."""
        recipe = recipe_of(service, name)
        about = {
            "name": name,
            "about": "" if recipe is None else recipe.about,
            "toml": saved.texts[name],
            "saved": True,
        }
        if recipe is None:  # this server may not offer the recipe
            return said(about | NOTHING | {"unusable": service.unusable[name]})
        return said(about | await shown(service, recipe, service.unusable.get(name)))

    async def read(
        self, request: Request, service: Service, counted: Body
    ) -> tuple[Written, Recipe | None, list[Fault]]:
        """The body of a request, and the recipe in its text, or the faults of the text.

        Texts are read in a thread, one at a time: several threads of Python would hold up the event loop.
        """
        written = await read_json(request, service, counted, Written)
        async with self.turn:
            recipe, faults = await asyncio.to_thread(read_recipe, written.toml, service.configuration.bounds)
        return written, recipe, faults

    async def check(self, request: Request) -> Response:
        """The faults of a text, or the recipe in it. Calls no model."""
        service = self.service()
        with service.bodies.holding(who(request, service)) as counted:
            _, recipe, faults = await self.read(request, service, counted)
        if recipe is None:
            return said({"ok": False, "errors": faults})
        return said({"ok": True, "name": recipe.name, **await shown(service, recipe, await why_not(service, recipe))})

    async def save(self, request: Request) -> Response:
        """Save a recipe as the user's own, and offer it from now on."""
        service, name = self.service(), request.path_params["name"]
        key = who(request, service)
        check_writable(service)
        if not re.fullmatch(NAME, name) or DEVICES.fullmatch(name):
            message = (
                f'name: is {name!r}, but must be 1 to 64 letters (a-z), digits, "-" or "_", first a letter or digit'
            )
            raise wrong(message, "name")
        with service.bodies.holding(key) as counted:
            written, recipe, faults = await self.read(request, service, counted)
        if recipe is None:
            fault = faults[0]
            where = "".join([f"line {fault.line}: " if fault.line else "", f"{fault.field}: " if fault.field else ""])
            raise wrong(f"{where}{fault.message}", f"toml.{fault.field}".rstrip("."))
        if recipe.name != name:
            raise wrong(f'name: is "{recipe.name}" in the text, but the recipe is saved as "{name}"', "toml.name")
        await service.look_for_saved()
        hidden = service.saved is not None and service.saved.hides(name)
        if hidden or is_shipped(name) or (name in service.shelf and not is_changeable(service, name)):
            message = f'you cannot replace the recipe "{name}"; give your recipe another name'
            raise wrong(message, "name", 409)
        if (why := await service.naming.refusal(recipe.models)) is not None:
            raise wrong(f"the recipe names a model that requests may not name. {why}", "toml", 403)
        if service.saved is not None:
            return await self.share(service.saved, name, written)
        path = recipes_folder() / f"{name}.toml"
        if path.exists() and not written.replace:
            raise taken(name)
        try:
            await asyncio.to_thread(_write, path, written.toml)
        except OSError as problem:
            message = f"{path}: cannot be written: {problem.strerror}"
            raise ProblemError(Problem(500, "server", message)) from None
        except InputError as problem:  # a device, a pipe or a folder of this name
            raise wrong(str(problem), "name", 409) from None
        offer(service, recipe, path)
        lasts = await asyncio.to_thread(offers_at_start, service.configuration, path)
        # The other workers of this server read recipes only when they start, and only those that are configured.
        return said({"name": name, "path": str(path), "restart": lasts and service.serving.workers > 1, "lasts": lasts})

    async def share(self, saved: SharedRecipes, name: str, written: Written) -> Response:
        """Save a recipe for all servers that share the database."""
        match await saved.save(name, written.toml, written.replace):
            case "taken":
                raise taken(name)
            case "full":
                raise wrong("the database has as many saved recipes as it may have; delete some first", "name", 409)
            case _:
                return said({"name": name, "path": None, "restart": False, "lasts": True})

    async def delete(self, request: Request) -> Response:
        """Delete the file of a recipe of the user's own, and offer the recipe no more."""
        service, name = self.service(), request.path_params["name"]
        who(request, service)
        check_writable(service)
        await service.look_for_saved()
        if service.saved is not None and name in service.saved.texts:
            await service.saved.delete(name)
            return said({"name": name, "deleted": True})
        if name not in known(service):
            raise ProblemError(Problem(404, "not_found", f'there is no recipe "{shown_id(name)}"', "name"))
        path = Path(service.shelf[name].source) if name in service.shelf else recipes_folder() / f"{name}.toml"
        if not is_own(str(path)):
            raise wrong(f'the recipe "{name}" is no recipe of your own, so it cannot be deleted here', "name", 409)
        if await asyncio.to_thread(is_configured, service.configuration, path):
            message = f'your configuration names the recipe "{name}": without it, no server would start'
            raise wrong(message, "name", 409)
        try:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except OSError as problem:
            message = f"{path}: cannot be deleted: {problem.strerror}"
            raise ProblemError(Problem(500, "server", message)) from None
        for table in (service.shelf, service.recipes, service.unusable):
            table.pop(name, None)
        return said({"name": name, "deleted": True})


def taken(name: str) -> ProblemError:
    """The error of a name that another recipe has."""
    return wrong(f'there is a recipe "{name}" already; to replace it, set "replace": true', "replace", 409)


def is_changeable(service: Service, name: str) -> bool:
    """Whether the recipe on the shelf is a file of the user's own, or one that servers share."""
    shared = service.saved is not None and name in service.saved.texts
    return shared or is_own(service.shelf[name].source)


def check_writable(service: Service) -> None:
    """Raise `ProblemError` where requests may not change files of recipes."""
    if service.keys.any() or not on_loopback(service.serving.host):
        message = "only a server that listens on this machine alone and has no keys saves or deletes recipes"
        raise ProblemError(Problem(403, "permission", message))


async def shown(service: Service, recipe: Recipe, unusable: str | None) -> dict[str, Any]:
    """A recipe with its layers, its calls and its price, and the reason if it is unusable."""
    price = await price_of(service, recipe)
    return {
        "drawn": drawn(recipe),
        "calls": recipe.calls,
        "typical_dollars": price.typical,
        "worst_dollars": price.worst,
        "unusable": unusable,
    }


def drawn(recipe: Recipe) -> dict[str, Any]:
    """The agents of each layer, the aggregator and all other settings. Settings at their defaults are left out."""
    plain = exact(msgspec.to_builtins(recipe))
    layers, aggregator = plain.pop("layers"), plain.pop("aggregator")
    return {
        "layers": [layer["agents"] for layer in layers],
        "aggregator": aggregator,
        "layer_settings": [{name: value for name, value in each.items() if name != "agents"} for each in layers],
        "settings": {name: value for name, value in plain.items() if name not in ("name", "about")},
    }


def exact(value: Any) -> Any:
    """The plain value with whole numbers that JavaScript would round, such as large seeds, as text."""
    match value:
        case dict():
            return {name: exact(each) for name, each in value.items()}
        case list() | tuple():
            return [exact(each) for each in value]
        case int() if abs(value) > EXACT:
            return str(value)
        case _:
            return value


async def why_not(service: Service, recipe: Recipe) -> str | None:
    """The reason why a recipe in a request is unusable, or `None`."""
    try:
        return await service.naming.refusal(recipe.models) or lacking(service, recipe)
    except ProblemError as error:  # the list of a provider cannot be read
        return error.problem.message


def lacking(service: Service, recipe: Recipe) -> str | None:
    """The reason why a recipe whose models may be named is unusable, such as a missing key; `None` if it is usable."""
    try:
        service.assembly.check(recipe.models)
    except ConfigurationError as problem:
        return str(problem)
    return None


def offer(service: Service, recipe: Recipe, path: Path) -> None:
    """Add a new or changed recipe, saved in the file `path`, to the recipes that the running server offers."""
    service.shelf[recipe.name] = Found(recipe, str(path))
    service.recipes.pop(recipe.name, None)
    service.unusable.pop(recipe.name, None)
    if (why := lacking(service, recipe)) is None:
        service.recipes[recipe.name] = recipe
    else:
        service.unusable[recipe.name] = why


def offers_at_start(configuration: Configuration, path: Path) -> bool:
    """Whether a server with this configuration offers the user's own recipe in the file `path` when it starts."""
    named = configuration.server.recipes
    places = {Path(name).expanduser().absolute() for name in named} | {Path(source_named(name)) for name in named}
    return not named or bool({path.absolute(), path.parent.absolute()} & places)


def is_configured(configuration: Configuration, path: Path) -> bool:
    """Whether the configuration names the recipe in this file, so that no server would start without it."""
    named = [*configuration.server.recipes, *([configuration.recipe] if configuration.recipe else [])]
    return path.absolute() in {Path(source_named(each)).absolute() for each in named}


def is_own(source: str) -> bool:
    """Whether the source of a recipe is a file in the folder of the user's own recipes."""
    return Path(source).parent == recipes_folder()


def on_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(path, text.encode(), permissions=PRIVATE)
