"""What is shown of a download: the licence before it, a bar while it comes, and nothing where nothing is fetched."""

import io

from partsong.cli.downloads import Downloads
from partsong.weights.fetch import Fetching

STEPS = (
    Fetching("tiny", "starting", 0, 100_000_000, "Apache-2.0"),
    Fetching("tiny", "trying", 0, 100_000_000, "Apache-2.0", "the hub"),
    Fetching("tiny", "failed", 0, 100_000_000, "Apache-2.0", "the hub", "it is\nnot reached\x1b[31m"),
    Fetching("tiny", "trying", 0, 100_000_000, "Apache-2.0", "the package index"),
    Fetching("tiny", "moving", 25_000_000, 100_000_000, "Apache-2.0", "the package index"),
    Fetching("tiny", "checking", 50_000_000, 100_000_000),
    Fetching("tiny", "ready", 100_000_000, 100_000_000),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


async def test_where_there_is_no_terminal_it_is_told_in_lines() -> None:
    stream = io.StringIO()
    with Downloads(stream) as downloads:
        for step in STEPS:
            downloads.hear(step)
    assert stream.getvalue().splitlines() == [
        "partsong: tiny: fetching it once, 100 MB, licence: Apache-2.0",
        "partsong: tiny: not from the hub: it is not reached[31m",
        "partsong: tiny: ready",
    ]


async def test_on_a_terminal_there_is_a_bar() -> None:
    stream = Terminal()
    with Downloads(stream) as downloads:
        for step in STEPS:
            downloads.hear(step)
    written = stream.getvalue()
    assert "fetching tiny  25% 25 of 100 MB ██████░░░░░░░░░░░░░░░░░░" in written
    assert "checking tiny  50% 50 of 100 MB ████████████░░░░░░░░░░░░" in written
    assert written.index("licence: Apache-2.0") < written.index("asking the hub")
    assert "\x1b[31m" not in written
    assert written.startswith("\x1b[?25l")
    assert written.endswith("\x1b[?25h")


async def test_where_nothing_is_fetched_nothing_is_shown() -> None:
    stream = Terminal()
    with Downloads(stream):
        pass
    assert stream.getvalue() == ""


async def test_a_size_that_nobody_knows() -> None:
    stream = Terminal()
    with Downloads(stream) as downloads:
        downloads.hear(Fetching("owner/model.gguf", "starting", licence="unknown"))
        downloads.hear(Fetching("owner/model.gguf", "moving", 12_000_000, licence="unknown"))
        downloads.hear(Fetching("owner/model.gguf", "waiting", note="another process is fetching model.gguf"))
        downloads.hear(Fetching("owner/model.gguf", "altered", note="it was deleted"))
    assert "fetching it once, licence: unknown" in stream.getvalue()
    assert "fetching owner/model.gguf 12 MB" in stream.getvalue()
    assert "another process is fetching model.gguf" in stream.getvalue()


async def test_a_standard_error_that_nobody_reads_ends_no_download() -> None:
    with Downloads(Broken()) as downloads:
        for step in STEPS:
            downloads.hear(step)
