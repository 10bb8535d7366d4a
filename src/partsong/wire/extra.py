"""Fields of a request that an agent passes on to its provider as they are. They replace nothing that partsong sets."""

from typing import Any

from partsong.errors import ModelError


def with_extra(body: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """The body with the further fields. Raises `ModelError` if one of them is set already."""
    if clash := sorted(body.keys() & extra.keys()):
        raise ModelError(f"extra.{clash[0]} would replace what partsong sets itself in this request", "refused")
    return body | extra if extra else body
