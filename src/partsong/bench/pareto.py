"""The Pareto front: the points that no other point beats in both cost and quality."""

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each point (cost, quality), whether it is on the front.

    A point is on the front if no other is at most as expensive and at least as good.
    """
    return [
        not any(other != point and other[0] <= point[0] and other[1] >= point[1] for other in points)
        for point in points
    ]
