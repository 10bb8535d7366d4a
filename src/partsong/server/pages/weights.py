"""The files that must be fetched before a recipe can be asked: local models whose weights are not on this disk."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from partsong.configuration import Provider
from partsong.errors import ConfigurationError
from partsong.folders import weights_folder
from partsong.recipe import Recipe
from partsong.weights.catalogue import Entry, find
from partsong.weights.fetch import is_there


class Missing(Struct, frozen=True):
    """A local model whose file is not here.

    bytes: size of the file; `None` if only the hub knows it
    """

    model: str
    bytes: int | None
    licence: str
    about: str


def missing(recipes: Iterable[Recipe], providers: Mapping[str, Provider]) -> dict[str, Missing]:
    """The models of these recipes that must be fetched, by id. Reads the disk."""
    found: dict[str, Missing] = {}
    for model in dict.fromkeys(model for recipe in recipes for model in recipe.models):
        provider, _, name = model.partition(":")
        if provider not in providers or providers[provider].api != "local":
            continue
        try:
            entry = find(name)
        except ConfigurationError:
            continue  # the recipe is unusable, which is told elsewhere
        if isinstance(entry, Entry) and not is_there(entry, weights_folder()):
            found[model] = Missing(model, entry.bytes, entry.licence, entry.about)
    return found
