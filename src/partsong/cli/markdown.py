"""Splits Markdown that is still being written into finished blocks, which no later text can change, and the rest.

A terminal prints each finished block once, and redraws only the unfinished block. A Markdown parser finds the blocks.
At the top level, all blocks but the last are finished, and in a list all items but the last. Raw HTML is shown as text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown
from rich.segment import Segment

_LISTS = ("bullet_list_open", "ordered_list_open")
_CODE = ("fence", "code_block")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of Markdown that rich can print.

    tokens: tokens of the parser
    apart: whether an empty line is printed before the block
    """

    tokens: Sequence[Token]
    apart: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        markdown = Markdown("", code_theme="ansi_dark", hyperlinks=False)
        markdown.parsed = list(self.tokens)
        lines = console.render_lines(markdown, options, pad=False)
        # rich puts empty lines around some kinds of blocks. They are removed, so that `apart` alone decides.
        while lines and not _words(lines[0]):
            del lines[0]
        while lines and not _words(lines[-1]):
            del lines[-1]
        if lines and self.apart:
            yield Segment.line()
        for line in lines:
            yield from line
            yield Segment.line()


class GrowingMarkdown:
    """Markdown text that grows with `add`. `take` removes its finished blocks and returns them."""

    def __init__(self) -> None:
        self._parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
        self._definitions: dict[str, object] = {}  # link definitions in the blocks that were taken
        self._text = ""  # text that was not taken yet
        self._apart = False  # whether an empty line is printed before the next block
        self._number: int | None = None  # number of the next item, if items of a numbered list were taken

    def add(self, text: str) -> None:
        self._text += text

    def take(self) -> list[Block]:
        """Remove the finished blocks from the text, and return them."""
        # An incomplete line may still become part of the block before it, so it does not finish that block.
        complete = self._text.count("\n")
        begun = [tokens for tokens in self._parse() if _line(tokens[0]) < complete]
        if not begun:
            return []
        *finished, last = begun
        keep, number, continued = _line(last[0]), None, False
        if last[0].type in _LISTS:
            items = [index for index, token in enumerate(last) if _is_item(token) and _line(token) < complete]
            if len(items) > 1:
                finished.append([*last[: items[-1]], last[-1]])
                keep, continued = _line(last[items[-1]]), True
                number = int(last[0].attrs.get("start", 1)) + len(items) - 1
        if not finished:
            return []
        blocks = self._blocks(finished)
        self._apart, self._number = not continued, number
        lines = self._text.split("\n")
        self._parser.parse("\n".join(lines[:keep]), self._definitions)
        self._text = "\n".join(lines[keep:])
        return blocks

    def rest(self, longest: int | None = None) -> list[Block]:
        """Return the unfinished blocks as they look now, without removing them.

        longest: most lines of a code block; of a longer block, only the end is returned; no limit by default
        """
        parsed = self._parse()
        for tokens in parsed:
            if longest is not None and tokens[0].type in _CODE:
                tokens[0].content = "\n".join(tokens[0].content.split("\n")[-longest - 1 :])
        return self._blocks(parsed)

    def finish(self) -> list[Block]:
        """Remove all remaining blocks from the text and return them, after the last text was added."""
        blocks, self._text = self.rest(), ""
        return blocks

    def _parse(self) -> list[list[Token]]:
        """Parse the remaining text, and return the tokens of each block at the top level."""
        blocks: list[list[Token]] = []
        definitions = {name: dict(value) for name, value in self._definitions.items() if isinstance(value, dict)}
        for token in self._parser.parse(self._text, definitions):
            if token.level == 0 and token.nesting >= 0:
                blocks.append([])
            blocks[-1].append(token)
            if token.children:
                token.children = _without_repeated_links(token.children)
        if blocks and self._number is not None and blocks[0][0].type == "ordered_list_open":
            blocks[0][0].attrs["start"] = self._number
        return blocks

    def _blocks(self, parsed: Sequence[Sequence[Token]]) -> list[Block]:
        return [Block(tokens, self._apart or index > 0) for index, tokens in enumerate(parsed)]


def _words(line: Sequence[Segment]) -> bool:
    return any(not segment.text.isspace() for segment in line if segment.text)


def _line(token: Token) -> int:
    """Return the index of the line in which a block begins."""
    return token.map[0] if token.map else 0


def _is_item(token: Token) -> bool:
    """Return whether the token begins an item of a list at the top level."""
    return token.type == "list_item_open" and token.level == 1


def _without_repeated_links(tokens: list[Token]) -> list[Token]:
    """Return the tokens without the links around bare addresses, because rich would print such an address twice."""
    return [token for token in tokens if not (token.info == "auto" and token.type in ("link_open", "link_close"))]
