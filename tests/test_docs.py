"""Every code block of the documentation is run, or says why it is not.

A page is one story: its blocks run from top to bottom, in one empty folder and one Python namespace.

    ```python   is executed; `await` may stand at the top
    ```sh       is run by sh, and must end with 0; no block asks a hosted model, and none reaches the network
    ```toml     is read as a recipe or as a configuration; if its first line is `# NAME.toml`, it is saved under that
                name for the blocks after it
    ```json     is parsed, line by line where a line is a value
    ```text     is what the block before it printed; `…` stands for anything

`<!-- not run: WHY -->` on the line before a block excuses it. Then Python must still compile, and the command line must
still accept the arguments of every `partsong` command in it.
"""

import ast
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cyclopts import CycloptsError

from partsong.cli.main import command_line
from partsong.configuration import ModelSettings, Provider, known_providers, read_configuration
from partsong.errors import ConfigurationError, RecipeError
from partsong.providers.scripted import Script
from partsong.recipe import Agent, Aggregator, Layer, Recipe
from partsong.recipes.finding import shipped
from partsong.recipes.reading import read
from tests.offline import sitecustomize

ROOT = Path(__file__).parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "ARCHITECTURE.md")), *sorted((ROOT / "docs").rglob("*.md"))]
EXCUSE = re.compile(r"<!-- not run: (.+) -->")
# What the blocks may know of the machine: no keys, no user's configuration, no weights.
KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")


@dataclass(frozen=True)
class Block:
    """A fenced block: where its text begins, what it is written in, and why it is not run, if it is not."""

    page: Path
    line: int
    language: str
    text: str
    excuse: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        if not (fence := re.fullmatch(r"(`{3,})(.*)", lines[number].rstrip())):
            assert not re.match(r"\s+```|~~~", lines[number]), f"{page}:{number + 1}: a fence that is not looked at"
            number += 1
            continue
        excuse = EXCUSE.fullmatch(lines[number - 1].strip()) if number else None
        end = lines.index(fence[1], number + 1)
        text = "\n".join(lines[number + 1 : end]) + "\n"
        found.append(Block(page, number + 2, fence[2].strip(), text, excuse[1] if excuse else None))
        number = end + 1
    return found


class Reader:
    """Somebody who follows a page to the letter, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed = ""
        self.namespace: dict[str, Any] = {"__name__": "__docs__"}
        self.environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.environment |= {
            "HOME": str(folder / "home"),
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "PYTHONPATH": str(Path(sitecustomize.__file__).parent),
        }

    async def follow(self, block: Block) -> None:
        match block.language:
            case "python" if block.excuse:
                compile_python(block)
            case "python":
                await self.python(block)
            case "sh" if block.excuse:
                accept(block)
            case "sh":
                self.sh(block)
            case "toml":
                self.toml(block)
            case "json":
                parse_json(block)
            case "text":
                assert block.excuse or matches(block.text, self.printed), f"{block.place}: it printed:\n{self.printed}"
            case language:
                pytest.fail(f'{block.place}: nobody knows how to run a block in "{language}"')

    async def python(self, block: Block) -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            result = eval(compile_python(block), self.namespace)
            if result is not None:
                await result
        self.printed = output.getvalue()

    def sh(self, block: Block) -> None:
        done = subprocess.run(
            ["sh", "-eu"],
            input=block.text,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert done.returncode == 0, f"{block.place}: it ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        self.printed = done.stdout

    def toml(self, block: Block) -> None:
        name = re.match(r"# ([\w-]+\.toml)$", block.text, re.MULTILINE)
        path = self.folder / (name[1] if name else "block.toml")
        path.write_text(block.text, encoding="utf-8")
        if {"layers", "aggregator", "include"} & tomllib.loads(block.text).keys():
            read(path)
        else:
            read_configuration(path)


def compile_python(block: Block) -> Any:
    code = "\n" * (block.line - 1) + block.text  # so that a traceback names the page's line
    return compile(code, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def accept(block: Block) -> None:
    """Have the command line take the arguments of each command in a block that is not run."""
    app = command_line()
    for command in commands(block.text):
        if command[0] == "./ask":
            command = ["partsong", "ask", *command[1:]]
        if command[0] == "partsong":
            app.parse_args(command[1:], exit_on_error=False, print_error=False)


def commands(text: str) -> list[list[str]]:
    """The simple commands of a shell block, without their assignments and redirections."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
        lexer.whitespace_split = True
        found.append([])
        for token in lexer:
            if set(token) <= set("<>"):
                next(lexer)  # the file
            elif set(token) <= set("|;&"):
                found.append([])
            elif found[-1] or not re.match(r"\w+=", token):
                found[-1].append(token)
    return [command for command in found if command]


def parse_json(block: Block) -> None:
    try:
        json.loads(block.text)
    except ValueError:
        for line in block.text.splitlines():
            json.loads(line)


def matches(expected: str, printed: str) -> bool:
    pattern = ".*?".join(re.escape(piece) for piece in expected.strip().split("…"))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name not in KEPT:
            monkeypatch.delenv(name)
    for name, value in reader.environment.items():
        monkeypatch.setenv(name, value)
    for block in blocks(page):
        await reader.follow(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target} is not there"


@pytest.mark.parametrize(
    ("page", "kinds"),
    [("recipes.md", (Recipe, Layer, Agent, Aggregator)), ("models.md", (Provider, ModelSettings, Script))],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tables_name_every_field(page: str, kinds: tuple[type[msgspec.Struct], ...]) -> None:
    told = rows(ROOT / "docs" / page)
    assert {field for kind in kinds for field in kind.__struct_fields__} <= told.keys()


def test_tables_of_recipes_and_providers_are_true() -> None:
    told = rows(ROOT / "docs" / "recipes.md")
    assert {recipe.name: told[recipe.name][0] for recipe in shipped()} == {
        recipe.name: str(recipe.calls) for recipe in shipped()
    }
    told = rows(ROOT / "docs" / "models.md")
    for name, provider in known_providers().items():
        assert told[name][0] == (f"`{provider.key_env}`" if provider.key_env else "none")


def rows(page: Path) -> dict[str, list[str]]:
    """The tables of a page: what stands beside each `name` in a first column."""
    lines = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {first.removeprefix("| ").strip("`"): rest for first, *rest in lines}


def test_no_block_goes_unseen(tmp_path: Path) -> None:
    """The reader itself: what it runs, what it excuses, and that it overlooks nothing."""
    page = tmp_path / "page.md"
    page.write_text("a\n```python\n1\n```\n\n<!-- not run: a drawing -->\n```text\nb\n```\n", encoding="utf-8")
    assert blocks(page) == [Block(page, 3, "python", "1\n", None), Block(page, 8, "text", "b\n", "a drawing")]
    page.write_text("  ```sh\n  ls\n  ```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="not looked at"):
        blocks(page)


async def test_wrong_blocks_are_found(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    await reader.follow(Block(tmp_path, 1, "sh", "echo one two\n", None))
    await reader.follow(Block(tmp_path, 1, "text", "one …\n", None))
    wrong: list[tuple[str, str, str | None, type[BaseException]]] = [
        ("text", "three\n", None, AssertionError),
        ("sh", "false\n", None, AssertionError),
        ("sh", "partsong ask --no-such-option\n", "a reason", CycloptsError),
        ("python", "await nobody\n", None, NameError),
        ("python", "def\n", "a reason", SyntaxError),
        ("toml", "layers = []\n", None, RecipeError),
        ("toml", "no_such_field = 1\n", None, ConfigurationError),
        ("json", "{\n", None, ValueError),
        ("ruby", "1\n", None, pytest.fail.Exception),
    ]
    for language, text, excuse, error in wrong:
        with pytest.raises(error):
            await reader.follow(Block(tmp_path, 1, language, text, excuse))


def test_commands_of_a_shell_block() -> None:
    text = "A=1 partsong ask 'a b' \\\n  --json | head -1  # a remark\nls"
    assert commands(text) == [["partsong", "ask", "a b", "--json"], ["head", "-1"], ["ls"]]
