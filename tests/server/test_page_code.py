"""The page's JavaScript as text: its types are those of the events, no imports form a cycle, and lines are short.

The formatter and the type check are run by `./test` itself, where Node is.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
from msgspec import inspect

from partsong.events import AnyEvent
from partsong.model import Answer

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "src" / "partsong" / "server" / "page"
TYPES = ROOT / "scripts" / "page" / "types.d.ts"
LONGEST = 120  # characters of a line
# Statements and calls; `@import` in a comment names types, which are not there when the page runs.
IMPORTS = re.compile(r"""^(?:import|export)\b[^"';]*?\bfrom "\./([^"]+)";|\bimport\("\./([^"]+)"\)""", re.MULTILINE)


def written() -> list[Path]:
    """The files of the page that are ours."""
    return [TYPES, *(path for path in sorted(PAGE.rglob("*")) if path.is_file() and "vendor" not in path.parts)]


def structs_in(kind: inspect.Type) -> Iterator[inspect.StructType]:
    """Every struct that a value of this type may hold, itself among them."""
    match kind:
        case inspect.StructType(fields=fields):
            yield kind
            for each in fields:
                yield from structs_in(each.type)
        case inspect.UnionType(types=kinds) | inspect.TupleType(item_types=kinds):
            for each_kind in kinds:
                yield from structs_in(each_kind)
        case inspect.VarTupleType(item_type=item) | inspect.DictType(value_type=item):
            yield from structs_in(item)


def in_typescript(kind: inspect.Type) -> str:
    """The TypeScript type of a value of this type once it has become JSON."""
    match kind:
        case inspect.StructType(cls=cls):
            return cls.__name__
        case inspect.LiteralType(values=values):
            return " | ".join(f'"{value}"' for value in values)
        case inspect.BoolType():
            return "boolean"
        case inspect.IntType() | inspect.FloatType():
            return "number"
        case inspect.StrType() | inspect.BytesType() | inspect.DecimalType() | inspect.DateType():
            return "string"
        case inspect.NoneType():
            return "null"
        case inspect.AnyType():
            return "unknown"
        case inspect.UnionType(types=kinds):
            return " | ".join(in_typescript(each) for each in kinds)
        case inspect.VarTupleType(item_type=item):
            inner = in_typescript(item)
            return f"({inner})[]" if " | " in inner else f"{inner}[]"
        case inspect.TupleType(item_types=items):
            return f"[{', '.join(in_typescript(each) for each in items)}]"
        case inspect.DictType(key_type=key, value_type=value):
            return f"Record<{in_typescript(key)}, {in_typescript(value)}>"
        case _:
            raise AssertionError(f"{kind} has no TypeScript type yet")


def interface_of(struct: inspect.StructType) -> str:
    """The interface of a struct in JSON. A field that may be missing has a question mark."""
    cls = struct.cls
    fields = [] if struct.tag is None else [f'{struct.tag_field}: "{struct.tag}";']
    unset = {each.encode_name for each in msgspec.structs.fields(cls) if each.default is msgspec.UNSET}
    for each in struct.fields:
        missing = each.encode_name in unset or (cls.__struct_config__.omit_defaults and not each.required)
        fields.append(f"{each.encode_name}{'?' if missing else ''}: {in_typescript(each.type)};")
    if cls is Answer:
        fields.append("text: string;")  # `events.to_builtins` adds the joined parts
    return f"export interface {cls.__name__} {{ {' '.join(fields)} }}"


def test_the_types_are_those_of_the_events() -> None:
    declared = re.sub(r"/\*.*?\*/|//[^\n]*", "", TYPES.read_text(encoding="utf-8"), flags=re.DOTALL)
    declared = re.sub(r"\s+", " ", declared).replace(": | ", ": ").replace("= | ", "= ")
    whole = inspect.type_info(AnyEvent)
    for struct in dict.fromkeys(each.cls for each in structs_in(whole)):
        expected = interface_of(next(each for each in structs_in(whole) if each.cls is struct))
        assert expected in declared
    names = [each.__name__ for each in get_args(AnyEvent)]
    assert f"export type AnyEvent = {' | '.join(names)};" in declared


def test_no_imports_form_a_cycle() -> None:
    imports = {
        path.name: {first or second for first, second in IMPORTS.findall(path.read_text(encoding="utf-8"))}
        for path in written()
        if path.suffix == ".js"
    }
    assert "ask.js" in imports["router.js"]  # a view is loaded when it is first opened
    assert "router.js" in imports["page.js"]

    def check(name: str, chain: tuple[str, ...]) -> None:
        assert name not in chain, " → ".join((*chain[chain.index(name) :], name))
        for each in imports.get(name, ()):
            check(each, (*chain, name))

    check("page.js", ())


def test_every_module_is_loaded_and_checked() -> None:
    modules = {path.name: path.read_text(encoding="utf-8") for path in written() if path.suffix == ".js"}
    named = {name for text in modules.values() for pair in IMPORTS.findall(text) for name in pair}
    assert set(modules) <= named | {"page.js", "theme.js", "colours-worker.js"}
    assert 'new URL("./colours-worker.js", import.meta.url)' in modules["colours.js"]
    assert [name for name, text in modules.items() if not text.startswith("// @ts-check\n")] == []


def test_no_line_is_too_long() -> None:
    wrong = [
        f"{path.name}:{number}"
        for path in written()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > LONGEST
    ]
    assert wrong == []
