"""The Pareto front: the points that no other point beats in both cost and quality."""

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return for each point whether the point is on the Pareto front, in the order of the points.

    points: pairs of cost (lower is better) and quality (higher is better), in any units

    A point is on the front unless a different point costs at most as much and has at least the same quality.
    """
    return [
        not any(other != point and other[0] <= point[0] and other[1] >= point[1] for other in points)
        for point in points
    ]
