"""Figures of whatever names there are: recipes and models are named by others, and a study was paid for."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from partsong.bench.figures import bars, lines, radar, save, scatter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS: dict[str, "Callable[[str], Figure]"] = {
    "bars": lambda name: bars({name: [(name, 1, 0.5, 1.5)], "other": [("b", 2, 1, 3)]}, "value"),
    "lines": lambda name: lines({name: [(1, 2), (2, 3)], "other": [(1, 1), (2, 1)]}, "layers", "value"),
    "scatter": lambda name: scatter([(name, 1, 2, True), ("other", 2, 1, False)], "dollars", "value"),
    "radar": lambda name: radar(["a", "b", "c"], {name: [1, 2, 3], "other": [2, 2, 2]}, (1, 5)),
}


def drawn(svg: str) -> set[str]:
    """The texts of a figure, as a reader of the SVG has them."""
    return {
        "".join(each.itertext()).strip() for each in ElementTree.fromstring(svg).iter() if each.tag.endswith("text")
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("$5 or $6", "$5 or $6"),
        (r"a $\foo$ b", r"a $\foo$ b"),
        (r"10\$ $x", r"10\$ $x"),
        ("_mine", "_mine"),
        ("混合", "混合"),
        ("<script>alert(1)</script>&--", "<script>alert(1)</script>&--"),
        ("a\nb\x07\ud800c", "a b c"),
        (f"one{'x' * 200}two", f"one{'x' * 21}…{'x' * 20}two"),
    ],
)
def test_every_name_can_be_drawn_and_read(tmp_path: Path, kind: str, name: str, shown: str) -> None:
    svg = save(KINDS[kind](name), tmp_path / kind)
    assert shown in drawn(svg)
    assert "other" in drawn(svg) or kind == "bars"
    assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_data_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    assert save(KINDS[kind]("a"), tmp_path / "one") == save(KINDS[kind]("a"), tmp_path / "two")
    for ending in (".svg", ".png"):
        one = (tmp_path / "one").with_suffix(ending).read_bytes()
        assert one == (tmp_path / "two").with_suffix(ending).read_bytes()
    assert not re.search(r"<dc:date>", save(KINDS[kind]("a"), tmp_path / "three"))
