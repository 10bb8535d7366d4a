"""The losses of a run: what its recipe asks for and the run did not get. With `strict`, the first ends the run."""

from collections.abc import Iterator

from partsong.errors import ModelError
from partsong.events import Loss, LossKind
from partsong.recipe import Recipe


class Losses:
    """The losses of one run so far.

    planned: seats of proposers
    answered: seats of proposers that have a proposal
    """

    def __init__(self, recipe: Recipe, dropped: tuple[Loss, ...] = ()) -> None:
        self.strict = recipe.strict
        self.planned = sum(len(layer.seats) for layer in recipe.layers) + len(dropped)
        self.answered = 0
        self.all = list(dropped)

    def __iter__(self) -> Iterator[Loss]:
        return iter(self.all)

    def add(
        self,
        layer: int,
        seat: int,
        model: str,
        error: ModelError,
        kind: LossKind = "failed",
        replaced_by: str = "",
    ) -> None:
        """Take note of a loss. Raises `ModelError` if the recipe is strict: the caller wants no answer with a loss."""
        self.all.append(Loss(layer, seat, model, error.cause, str(error), kind, replaced_by))
        if self.strict:
            by = f", replaced by {replaced_by}" if replaced_by else ""
            raise ModelError(
                f"strict: ({layer}, {seat}) {model} {kind.replace('_', ' ')}{by}: {error}",
                error.cause,
                status=error.status,
            )
