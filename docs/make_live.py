"""Makes docs/live.svg: a real run, recorded from the live view frame by frame, as one animated picture.

    python docs/make_live.py [QUESTION] [RECIPE]

A line of the screen is drawn once for as long as it stands there, so the picture is small. Where animations are not
shown, it shows the end of the run.
"""

import asyncio
import io
import re
import sys
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.style import Style
from rich.text import Text

from partsong.assembly import assemble
from partsong.cli.region import Region
from partsong.cli.terminal import Terminal
from partsong.configuration import find_configuration
from partsong.engine import perform
from partsong.model import asking
from partsong.recipes.finding import find_recipe

QUESTION = "Write a one-line Python function that reverses a string"
COLUMNS, ROWS = 80, 30
LETTER, LINE, MARGIN, HEAD = 8.4, 18, 16, 36  # pixels
LASTS = 14.0  # seconds: longer runs are played faster
RESTS = 5.0  # seconds on the last frame, before it begins again
OFTEN = 0.25  # seconds between two frames of the picture
COLOURS = ("", "#f47067", "#6bc46d", "#daaa3f", "#6cb6ff", "#dcbdfb", "#56d4dd", "#cdd9e5")  # as terminals count them

Lines = list[str]


class Recorded(Region):
    """A region that keeps what was on the screen, and when, instead of showing it."""

    def __init__(self) -> None:
        super().__init__(
            Console(file=io.StringIO(), force_terminal=True, width=COLUMNS, height=ROWS, color_system="standard")
        )
        self.kept: Lines = []
        self.frames: list[tuple[float, Lines]] = []

    def draw(self, finished: Sequence[RenderableType], live: Sequence[RenderableType] = ()) -> None:
        self.kept += [line for line, _ in self.lines(*finished)]
        below = [line for line, _ in self.lines(*live)][-self.room :]
        self.frames.append((time.monotonic(), [*self.kept, *below][-ROWS:]))


async def record(question: str, name: str) -> list[tuple[float, Lines]]:
    region, recipe = Recorded(), find_recipe(name)
    terminal = Terminal(region)
    async with assemble(recipe.models, find_configuration()) as models, region.drawing(terminal.frame):
        begun = time.monotonic()
        await perform(recipe, asking(question), models, terminal.hear)
    return [(max(0.0, at - begun), lines) for at, lines in region.frames]


def picture(frames: list[tuple[float, Lines]], question: str) -> str:
    faster = max(1.0, frames[-1][0] / LASTS)
    frames = thinned([(at / faster, [f'$ partsong ask "{question}"', *lines][-ROWS:]) for at, lines in frames])
    end = frames[-1][0] + RESTS
    rows = max(len(lines) for _, lines in frames)
    width, height = COLUMNS * LETTER + 2 * MARGIN, rows * LINE + MARGIN + HEAD
    speed = f" ({faster:.1f} times as fast)" if faster >= 1.05 else ""
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img"',
        'font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,monospace" font-size="14" fill="#adbac7">',
        "<style>.b{font-weight:700}.d{fill:#768390}"
        + "".join(f".c{number}{{fill:{colour}}}" for number, colour in enumerate(COLOURS) if colour)
        + "</style>",
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#22272e"/>',
        *(
            f'<circle cx="{18 + 18 * n}" cy="17" r="5.5" fill="{c}"/>'
            for n, c in enumerate(("#f47067", "#daaa3f", "#6bc46d"))
        ),
        f'<text x="{width / 2:g}" y="22" text-anchor="middle" class="d">partsong{speed}</text>',
    ]
    for row in range(rows):
        shapes += standing(frames, row, end)
    return "\n".join([*shapes, "</svg>\n"])


def thinned(frames: list[tuple[float, Lines]]) -> list[tuple[float, Lines]]:
    """Fewer frames, and always the last one."""
    kept = frames[:1]
    for frame in frames[1:]:
        if frame[0] - kept[-1][0] >= OFTEN:
            kept.append(frame)
    return [*kept[:-1], frames[-1]] if kept[-1][0] > frames[-1][0] - OFTEN else [*kept, frames[-1]]


def standing(frames: list[tuple[float, Lines]], row: int, end: float) -> list[str]:
    """The lines that stand in a row of the screen, one after another, each with the time for which it does."""
    shapes: list[str] = []
    since, shown = 0.0, ""
    for at, lines in [*frames, (end, [])]:
        line = lines[row] if row < len(lines) else ""
        if line == shown and at < end:
            continue
        if shown:
            times = f'values="0;1;0" keyTimes="0;{since / end:.4f};{min(1, at / end):.4f}"'
            if at >= end:
                times = f'values="0;1" keyTimes="0;{since / end:.4f}"'
            if since == 0:
                times = f'values="1;0" keyTimes="0;{at / end:.4f}"' if at < end else ""
            shapes.append(text(shown, row, times, end, last=at >= end))
        since, shown = at, line
    return shapes


def text(line: str, row: int, times: str, end: float, *, last: bool) -> str:
    styled, pieces, column = Text.from_ansi(line), [], 0
    for piece in styled.divide(sorted({edge for span in styled.spans for edge in (span.start, span.end)})):
        names = classes(piece.spans[0].style if piece.spans else "")
        # Each word group has a place of its own, so that columns stand below each other in any font.
        for words in re.split(r"( {2,}|^ | $)", piece.plain):
            if words.strip():
                look = f' class="{names}"' if names else ""
                pieces.append(f'<tspan x="{MARGIN + column * LETTER:g}"{look}>{escape(words, quote=False)}</tspan>')
            column += cell_len(words)
    move = f'<animate attributeName="opacity" {times} dur="{end:.1f}s" calcMode="discrete" repeatCount="indefinite"/>'
    hidden = "" if last else ' opacity="0"'
    return f'<text y="{HEAD + LINE * row + 13}"{hidden}>{"".join(pieces)}{move if times else ""}</text>'


def classes(style: object) -> str:
    if not isinstance(style, Style):
        return ""
    number = style.color.number if style.color else None
    names = ("b" if style.bold else "", "d" if style.dim else "", f"c{number % 8}" if number else "")
    return " ".join(name for name in names if name)


if __name__ == "__main__":
    asked = sys.argv[1] if len(sys.argv) > 1 else QUESTION
    frames = asyncio.run(record(asked, sys.argv[2] if len(sys.argv) > 2 else "local"))
    (Path(__file__).parent / "live.svg").write_text(picture(frames, asked), encoding="utf-8")
