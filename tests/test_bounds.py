"""The bounds: the documentation lists each one with its default, and no bound is without a limit."""

import re
from pathlib import Path

import msgspec
import pytest

from partsong.bounds import Bounds

PAGE = Path(__file__).parent.parent / "docs" / "bounds.md"


def test_the_documentation_lists_every_bound_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.,]+) \|", PAGE.read_text(), re.MULTILINE)
    documented = {name: float(default.replace(",", "")) for name, default in rows}
    assert documented == {name: float(getattr(Bounds(), name)) for name in Bounds.__struct_fields__}


@pytest.mark.parametrize("name", Bounds.__struct_fields__)
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_bound_without_a_limit_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}, but must be a number above 0"):
        msgspec.structs.replace(Bounds(), **{name: value})
