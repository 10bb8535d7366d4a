"""Shows downloads of weights on standard error: first the licence and the size, then a progress bar.

If standard error is not a terminal, the steps are printed as lines, without a bar. If no weights are missing, nothing
is shown, and the modules for drawing are not imported.
"""

import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from partsong.cli.printable import printable, single_line

if TYPE_CHECKING:
    from partsong.cli.region import Region
    from partsong.weights.fetch import Fetching

LONGEST_BAR = 24  # columns on the terminal


class Downloads:
    """Shows the steps of downloads on a stream. Used in a `with` statement, whose end releases the terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.region: Region | None = None
        self.loading: set[str] = set()  # names of the models that are being loaded, which the table of the run shows
        self.began: tuple[float, int] | None = None  # time and bytes at the start of this source

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.region is not None:
            with suppress(OSError):
                self.region.draw(())
                self.region.release()

    def hear(self, event: "Fetching") -> None:
        """Show one step of a download. A closed stream is ignored, so that the download goes on."""
        if event.state == "loading":
            self.loading.add(event.name)
        elif event.state == "loaded":
            self.loading.discard(event.name)
        if event.state in ("ended", "loading", "loaded"):
            return
        with suppress(OSError):
            if event.state in ("moving", "checking"):
                if self.stream.isatty():
                    self.show(self.moving(event, self.taken().width))
            else:
                self.began = None
                self.tell(*said(event))

    def tell(self, finished: str, live: str) -> None:
        """Show a step as text.

        finished: line that is printed once and stays; empty for none
        live: line below it that the next step replaces; only shown on a terminal
        """
        if self.stream.isatty():
            self.show(live, finished)
        elif finished:
            print(f"partsong: {single_line(finished, self.stream.encoding)}", file=self.stream, flush=True)

    def show(self, live: str, finished: str = "") -> None:
        from rich.text import Text

        region = self.taken()
        encoding = region.console.encoding
        region.draw(
            [Text(single_line(finished, encoding))] if finished else [],
            [Text(printable(live, encoding), no_wrap=True, overflow="ellipsis")] if live else [],
        )

    def taken(self) -> "Region":
        """Return the live region of the terminal. The region is made and taken at the first call."""
        if self.region is None:
            from rich.console import Console

            from partsong.cli.region import Region

            self.region = Region(Console(file=self.stream, highlight=False, markup=False, emoji=False))
            self.region.take()
        return self.region

    def moving(self, event: "Fetching", width: int) -> str:
        """Return the line of a download under way, at most `width` columns wide if the size is known.

        The line has name, share, size, speed, time left, and a bar.
        """
        from partsong.weights.part import in_words

        now = time.monotonic()
        began, first = self.began = self.began or (now, event.done)
        seconds, moved = now - began, event.done - first
        words = ["checking" if event.state == "checking" else "fetching", event.name]
        if event.total:
            words += [f"{event.done / event.total:4.0%}", f"{in_words(event.done).removesuffix(' MB')} of"]
        words.append(in_words(event.total or event.done))
        if event.state == "moving" and seconds > 1 and moved:
            words.append(f"{in_words(int(moved / seconds))}/s")
            if event.total:
                words.append(f"{(event.total - event.done) * seconds / moved:.0f} s left")
        text = " ".join(words)
        return f"{text} {bar(event.done / event.total, width - len(text) - 1)}" if event.total else text


def said(event: "Fetching") -> tuple[str, str]:
    """Return two lines for a step: a line that stays, and a line that the next step replaces. Either may be empty."""
    from partsong.weights.part import in_words

    match event.state:
        case "starting":
            size = f", {in_words(event.total)}" if event.total else ""
            return f"{event.name}: fetching it once{size}, licence: {event.licence}", ""
        case "trying":
            return "", f"asking {event.source} …"
        case "failed":
            return f"{event.name}: not from {event.source}: {event.note}", ""
        case "waiting":
            return f"{event.name}: {event.note}", "waiting …"
        case "altered":
            return f"{event.name}: {event.note}", ""
        case _:
            return f"{event.name}: ready", ""


def bar(share: float, room: int) -> str:
    """Return a progress bar as text.

    share: filled part, from 0 to 1
    room: most columns; the bar has at most `LONGEST_BAR` columns
    """
    length = min(LONGEST_BAR, max(0, room))
    full = round(min(1.0, share) * length)
    return "█" * full + "░" * (length - full)
