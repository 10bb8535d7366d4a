"""The lines of the fields in a TOML text: every field that the parser finds has a line, and it is the right one."""

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from partsong.server.pages.lines import Path, lines_of

PLAIN = ["1", "-2.5", "true", "1979-05-27 07:32:00", "07:32:00", "0xff", "inf", '""', "''", '"s # ] }"', "'l \\'"]
BLOCKS = ['"""m\n]"x""z\n"""', "'''a\n#''b'''", '"""a"""""', '"e\\" , ]"', "'''x'''''"]
SCALARS = st.sampled_from([*PLAIN, *BLOCKS])
NAMES = st.sampled_from(["a", "b-1", '"q.x"', "'l it'", '"\\u0041"', "1", '""'])
GAPS = st.sampled_from(["", " ", "\n", " # c ]\n", "\t"])


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    gaps = [draw(GAPS) for _ in range(9)]
    parts = draw(st.lists(inner, max_size=3))
    return f"[{gaps[0]}" + "".join(f"{part}{gaps[1]},{gaps[2]}" for part in parts) + "]"


@st.composite
def tables(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    return "{ " + " , ".join(f"{name} = {draw(inner)}" for name in names) + " }"


VALUES = st.recursive(SCALARS, lambda inner: arrays(inner) | tables(inner), max_leaves=6)
KEYS = st.lists(NAMES, min_size=1, max_size=3).map(" . ".join)
STATEMENTS = st.one_of(
    KEYS.map(lambda key: f"[ {key} ] # x"),
    st.sampled_from(["[[l]]", "[[m]]", "[[ l.n ]]", "[[l.n.o]]"]),
    st.tuples(KEYS, VALUES).map(" = ".join),
)


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    parts: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield (*path, name)
        yield from paths(part, (*path, name))


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.lists(STATEMENTS, max_size=6), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_every_field_has_a_line(statements: list[str], end: str) -> None:
    text = end.join(statements)
    try:
        whole = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assume(False)
    assert set(lines_of(text)) == set(paths(whole))


def test_the_line_is_the_first_with_the_field() -> None:
    text = 'name = "x"\n\n[[layers]] # 1\nagents = [\n  "a:b",\n  { model = "c:d",\n},\n]\n[[layers]]\nagents.x = 1\n'
    lines = lines_of(text.replace("\n},", " },"))
    assert lines[("name",)] == 1
    assert (lines[("layers",)], lines[("layers", 0)], lines[("layers", 1)]) == (3, 3, 8)
    assert lines[("layers", 0, "agents")] == 4
    assert lines[("layers", 0, "agents", 0)] == 5
    assert lines[("layers", 0, "agents", 1, "model")] == 6
    assert lines[("layers", 1, "agents", "x")] == 9
