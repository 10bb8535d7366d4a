"""What a run did not get as its recipe has it, kept in one list; under `strict`, the first of them ends the run."""

from collections.abc import Iterator

from partsong.errors import ModelError
from partsong.events import Loss, LossKind
from partsong.recipe import Recipe


class Losses:
    """The losses of one run so far, and of how many `planned` seats of proposers `answered` have a proposal."""

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
        """Take note of a loss. Raises `ModelError` under `strict`: whoever wants all or nothing pays no further."""
        self.all.append(Loss(layer, seat, model, error.cause, str(error), kind, replaced_by))
        if self.strict:
            by = f", replaced by {replaced_by}" if replaced_by else ""
            raise ModelError(
                f"strict: ({layer}, {seat}) {model} {kind.replace('_', ' ')}{by}: {error}",
                error.cause,
                status=error.status,
            )
