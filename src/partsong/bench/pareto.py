"""The Pareto front: whom nobody beats in both cost and quality."""

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of points (cost, quality), which are on the front: no other is as good for less, or better for as much."""
    return [
        not any(other != point and other[0] <= point[0] and other[1] >= point[1] for other in points)
        for point in points
    ]
