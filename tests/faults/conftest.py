"""Time jumps here from timer to timer, and after each jump the loop listens to its sockets.

A stream that hangs for a minute would take 3,000 jumps if the loop's delay were measured as often as in service. In
time that jumps no loop is ever late, so nothing is lost if the delay is measured less often.
"""

from collections.abc import Iterator

import pytest

from partsong.providers import backlog

BEAT = 2.0  # seconds between two measurements


@pytest.fixture(scope="package", autouse=True)
def few_measurements() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backlog, "BEAT", BEAT)
        yield
