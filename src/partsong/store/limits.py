"""The limits of a server's key: requests at the same time, and requests a minute.

Requests a minute follow GCRA, the generic cell rate algorithm. Each request adds its share of a minute to a debt, time
pays the debt off, and the debt may not exceed one minute. A key therefore may use its minute in one burst.
"""

from typing import Literal

from msgspec import Struct

MINUTE = 60.0
AGAIN = 1.0  # seconds after which a client that was refused for its requests at once may try again
SLACK = 1e-6  # seconds: a client that waited exactly as told must not be refused for a rounding error


class Refusal(Struct, frozen=True):
    """A request was refused.

    limit: the limit that the request would exceed
    wait: seconds after which the client may try again
    """

    limit: Literal["at_once", "requests_per_minute"]
    wait: float


def owed(due: float, now: float, per_minute: int) -> tuple[float, float]:
    """Add one request to a debt. Return when the new debt is paid off, and the seconds that the request must wait.

    due: when the debt so far is paid off, by the clock of `now`
    now: the current time in seconds
    per_minute: most requests in a minute

    The wait is 0 if the request may be made now. A clock that was set back can leave a `due` more than a minute ahead
    of `now`; such a debt counts as one minute.
    """
    due = min(max(due, now), now + MINUTE) + MINUTE / per_minute
    wait = due - now - MINUTE
    return due, wait if wait > SLACK else 0.0
