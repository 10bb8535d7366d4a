"""What a request may name: decides which models callers may ask, and refuses ids that no id can be.

Whoever starts the server chooses models by the configuration and by recipes. A request may name these, and further
models only if nobody else is harmed: hosted models that their provider lists, and models of the catalogue whose weights
are on this disk. So no request makes the server fetch a file, open a path, or wait as a script of the caller says.
The command line and the library have no such limits.
"""

import asyncio
from collections.abc import Iterable, Mapping

from partsong import ids
from partsong.assembly import Assembly
from partsong.bounds import Bounds
from partsong.configuration import Configuration, Provider
from partsong.errors import ConfigurationError, ModelError
from partsong.folders import weights_folder
from partsong.recipe import Recipe
from partsong.server.problems import ProblemError
from partsong.wire.parsed import ParsedRequest
from partsong.wire.reply import Problem

FRESH = 600.0  # seconds for which the list of a provider is used
NEWER = 30.0  # seconds after which the list is read again for a name that is not in it, as after `ollama pull`
AGAIN = 10.0  # seconds after which a list that could not be read is tried again
IDENTITIES = frozenset({"user", "safety_identifier", "prompt_cache_key", "conversation"})  # labels that are ids


class Naming:
    """Decides which models a request may name.

    recipes: the recipes that the server offers, by name; the mapping may change
    """

    def __init__(self, configuration: Configuration, assembly: Assembly, recipes: Mapping[str, Recipe]) -> None:
        self.configuration, self.assembly, self.recipes = configuration, assembly, recipes
        self._listings: dict[str, Listing] = {}

    async def check(self, models: Iterable[str], field: str) -> None:
        """Raise `ProblemError` if a request may not name one of the models. `field`: the field that names them."""
        if (why := await self.refusal(models)) is not None:
            raise ProblemError(Problem(404, "not_found", why, field, "model_not_found"))

    async def refusal(self, models: Iterable[str]) -> str | None:
        """Why a request may not name the models: the reason for the first one that is refused; `None` if all may be.

        Nothing is said about models that `Assembly.check` refuses, because their provider is unknown or has no key.
        Raises `ProblemError` if the list of a provider cannot be read now.
        """
        named = self.named()
        for identity in dict.fromkeys(models):
            if identity not in named and (why := await self._refused(identity)) is not None:
                return why
        return None

    def named(self) -> set[str]:
        """The ids of the models that the configuration or an offered recipe names."""
        return {*self.configuration.models, *(model for recipe in self.recipes.values() for model in recipe.models)}

    async def listed(self, provider: str) -> frozenset[str] | None:
        """The models that a provider lists, as read some time ago or now; `None` if the provider has no list.

        Raises `ModelError` if the list cannot be read.
        """
        return await self._listings.setdefault(provider, Listing(self.assembly, provider)).read("")

    def forget(self, provider: str) -> None:
        """Read the list of a provider again when it is next needed, because its key has changed."""
        self._listings.pop(provider, None)

    async def _refused(self, identity: str) -> str | None:
        provider, _, name = identity.partition(":")
        settings, known = self.assembly.providers.get(provider), ids.shown(identity)
        table = f'a recipe of the server or a table [models."{known}"] in its partsong.toml'
        if not self.configuration.server.models:
            return f"{known}: clients may not choose the models on this server"
        if settings is None:
            return None
        if settings.api == "scripted":
            return f"{known}: may be asked over the server only if {table} names exactly this id"
        if settings.api == "local":
            if await asyncio.to_thread(_is_here, name):
                return None
            return (
                f"{known}: may be asked over the server only if {table} names exactly this id, or if the"
                " catalogue has the model and its weights were pulled before (partsong pull)"
            )
        try:
            self.assembly.check((identity,))
        except ConfigurationError:
            return None
        return await self._unlisted(provider, settings, name, table)

    async def _unlisted(self, provider: str, settings: Provider, name: str, table: str) -> str | None:
        """Why a hosted model is refused: its provider does not list it; `None` if the provider lists it."""
        listing = self._listings.setdefault(provider, Listing(self.assembly, provider))
        try:
            listed = await listing.read(name)
        except ModelError as problem:
            message = f"{provider}: the list of its models cannot be read now ({problem})"
            raise ProblemError(Problem(503, "overloaded", message, "model", retry_after=AGAIN)) from None
        shown = ids.shown(f"{provider}:{name}")
        if listed is None:
            return f"{shown}: {provider} has no list of its models, so {table} must name this model"
        return None if name in listed else f"{shown}: {provider} lists no such model; {table} can name it all the same"


class Listing:
    """The list of a provider's models. All requests that need the list wait for the same reading of it."""

    def __init__(self, assembly: Assembly, provider: str) -> None:
        self.assembly, self.provider = assembly, provider
        self._reading: asyncio.Task[frozenset[str] | None] | None = None
        self._began = 0.0

    async def read(self, name: str) -> frozenset[str] | None:
        """The models of the provider, read now or some time ago; `None` if the provider has no list.

        name: the model that is asked for; an old list without it is read again

        Raises `ModelError` if the list cannot be read.
        """
        age = asyncio.get_running_loop().time() - self._began
        if self._reading is None or (self._reading.done() and age >= self._keeps(name)):
            self._began = asyncio.get_running_loop().time()
            self._reading = self.assembly.begin(self.assembly.listed(self.provider))
        return await asyncio.shield(self._reading)

    def _keeps(self, name: str) -> float:
        """For how many seconds the last reading is used for a request that names the model `name`."""
        assert self._reading is not None
        if self._reading.cancelled():
            return 0.0
        if self._reading.exception() is not None:
            return AGAIN
        listed = self._reading.result()
        return FRESH if listed is None or name in listed else NEWER


def check_ids(parsed: ParsedRequest, bounds: Bounds) -> None:
    """Refuse a request whose ids have characters that cannot be seen, or are too long. Raises `RequestError`."""
    most = bounds.id_bytes
    if ":" in parsed.model:  # any other name is one of the recipes, or there is no such model
        ids.check(parsed.model, "model", most)
    if parsed.previous:
        ids.check(parsed.previous, "previous_response_id", most)
    for reference in parsed.references:
        ids.check(reference, "input", most)
    for name, value in parsed.labels.items():
        if name not in IDENTITIES:
            ids.check(name, "metadata", most)
        if value and (name in IDENTITIES or name.lower().endswith("id")):
            ids.check(value, name if name in IDENTITIES else f"metadata.{name}", most)


def _is_here(name: str) -> bool:
    """Whether the catalogue has the model, and its weights are on this disk and were checked before."""
    from partsong.weights.catalogue import entries
    from partsong.weights.fetch import is_checked

    entry = next((entry for entry in entries() if entry.name == name), None)
    return entry is not None and is_checked(entry, weights_folder())
