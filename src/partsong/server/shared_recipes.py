"""The recipes that servers on several hosts share, from their database.

A server looks for new, changed and deleted recipes twice a second. The page, and a request for a model that the server
does not know, look at once. While the database cannot be read, the recipes that were read last are offered.

A recipe that was saved on one server must be allowed on each: a server offers the recipe only if its own configuration
lets requests name the models. A recipe that the server has as a file, or that is shipped, hides a shared one of the
same name.
"""

import asyncio
import tomllib
from contextlib import suppress

from partsong import toml
from partsong.assembly import Assembly
from partsong.bounds import Bounds
from partsong.errors import ConfigurationError, RecipeError, StoreError
from partsong.recipe import Recipe
from partsong.recipes.bounding import check_text
from partsong.recipes.finding import is_shipped
from partsong.recipes.reading import tables_in
from partsong.server.naming import Naming
from partsong.server.offered import Found
from partsong.server.problems import ProblemError
from partsong.store import SavedAs, Store

LOOK = 0.5  # seconds between two looks for what other servers have saved or deleted
WITHIN = 2.0  # seconds for which a request waits for a look
SOURCE = "the database"


class SharedRecipes:
    """Keeps the tables of a server's recipes up to date with those in the database.

    recipes, unusable, shelf: the tables of `Service`, which are changed
    texts: the shared recipes that no recipe of this server hides, as TOML, by name
    """

    def __init__(
        self,
        store: Store,
        assembly: Assembly,
        naming: Naming,
        bounds: Bounds,
        recipes: dict[str, Recipe],
        unusable: dict[str, str],
        shelf: dict[str, Found],
    ) -> None:
        self.texts: dict[str, str] = {}
        self._store, self._assembly, self._naming, self._bounds = store, assembly, naming, bounds
        self._recipes, self._unusable, self._shelf = recipes, unusable, shelf
        self._digests: dict[str, bytes] = {}
        self._began = float("-inf")
        self._turn = asyncio.Lock()

    def hides(self, name: str) -> bool:
        """Whether this server has a recipe of this name that is not shared, or a file that is none."""
        return name not in self.texts and (is_shipped(name) or name in self._shelf or name in self._unusable)

    async def follow(self) -> None:
        """Look for what other servers have saved or deleted, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            await self.refresh()

    async def refresh(self) -> None:
        """Look once, for 2 seconds at most. Raises nothing: the store tells its failures itself."""
        clock = asyncio.get_running_loop().time
        asked = clock()
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(WITHIN), self._turn:
                if self._began <= asked:  # else a look for somebody else has begun since
                    self._began = clock()
                    await self._look()

    async def save(self, name: str, text: str, replace: bool) -> SavedAs:
        """Save a recipe, and offer it here. Raises `StoreError`."""
        saved = await self._store.keep_recipe(name, text, replace)
        await self.refresh()
        return saved

    async def delete(self, name: str) -> None:
        """Delete a recipe, and offer it here no more. Raises `StoreError`."""
        await self._store.remove_recipe(name)
        await self.refresh()

    async def _look(self) -> None:
        found = await self._store.recipe_digests()
        for name in self._digests.keys() - found.keys():
            self._forget(name)
        new = [name for name, digest in found.items() if self._digests.get(name) != digest and not self.hides(name)]
        if not new:
            return
        for name, text in (await self._store.read_recipes(new)).items():
            self._digests[name] = found[name]
            try:
                await self._offer(name, text)
            except ProblemError as problem:  # the list of a provider cannot be read now: the next look tries again
                self._refuse(name, text, problem.problem.message)
                self._digests[name] = b""

    async def _offer(self, name: str, text: str) -> None:
        """Offer a new or changed recipe, or keep the reason why it is unusable. Raises `ProblemError`."""
        try:
            recipe = await asyncio.to_thread(_recipe_in, text, self._bounds)
        except RecipeError as problem:
            self._refuse(name, text, str(problem))
            return
        if (why := await self._naming.refusal(recipe.models)) is not None:
            self._refuse(name, text, why)
            return
        self._refuse(name, text, "")
        self._shelf[name] = Found(recipe, SOURCE)
        try:
            self._assembly.check(recipe.models)
        except ConfigurationError as problem:
            self._unusable[name] = str(problem)
            return
        del self._unusable[name]
        self._recipes[name] = recipe

    def _refuse(self, name: str, text: str, why: str) -> None:
        """Keep the text of a recipe that is unusable."""
        self._recipes.pop(name, None)
        self._shelf.pop(name, None)
        self.texts[name], self._unusable[name] = text, why

    def _forget(self, name: str) -> None:
        del self._digests[name]
        self.texts.pop(name, None)
        self._recipes.pop(name, None)
        self._shelf.pop(name, None)
        self._unusable.pop(name, None)


def _recipe_in(text: str, bounds: Bounds) -> Recipe:
    """The recipe in a text that another server has checked. Raises `RecipeError` if this server cannot read it."""
    check_text(text, bounds)
    try:
        return toml.convert(tables_in(text), Recipe, SOURCE, RecipeError)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as problem:
        raise RecipeError(f"{SOURCE}: this cannot be read: {problem}") from None
