"""What the server tells of models that are being fetched or loaded."""

from partsong.server.preparing import OFTEN, Prepared, Preparing
from partsong.weights.fetch import Fetching, State


def heard(*events: Fetching, seconds: float = 0.0) -> tuple[Preparing, list[tuple[str, str]]]:
    """What is told after these events, between which so many seconds pass."""
    lines: list[tuple[str, str]] = []
    now = [0.0]

    def clock() -> float:
        now[0] += seconds
        return now[0]

    preparing = Preparing(lambda level, text: lines.append((level, text)), clock)
    for event in events:
        preparing.hear(event)
    return preparing, lines


def event(state: State, done: int = 0, note: str = "", source: str = "") -> Fetching:
    return Fetching("qwen", state, done, 1_117_000_000, source=source, note=note)


def test_a_fetch_is_told_from_its_start_to_its_end() -> None:
    before = (event("starting"), event("trying", source="the hub"), event("moving", 310_000_000))
    preparing, lines = heard(*before)
    assert preparing.all() == [Prepared("local:qwen", "fetching", 310_000_000, 1_117_000_000)]
    assert lines == [("info", "fetching local:qwen (1,117 MB)")]
    preparing, lines = heard(*before, event("ready"), event("ended"), seconds=OFTEN)
    assert preparing.all() == []
    assert lines[1:] == [
        ("info", "fetching local:qwen: 310 MB of 1,117 MB"),
        ("info", "local:qwen: the file is there"),
    ]


def test_progress_is_a_line_only_now_and_then() -> None:
    moving = [event("moving", done) for done in range(100)]
    _, lines = heard(event("starting"), *moving, seconds=OFTEN / 20)
    assert 4 <= len(lines) <= 6


def test_a_fetch_that_fails_is_told_with_its_reason() -> None:
    failed = event("failed", source="the hub", note="it has no such file")
    preparing, lines = heard(event("starting"), failed, event("ended", note="its weights cannot be had"))
    assert preparing.all() == []
    assert lines[1:] == [
        ("warning", "local:qwen: the hub: it has no such file"),
        ("warning", "local:qwen: cannot be used: its weights cannot be had"),
    ]


def test_files_that_are_here_are_no_news() -> None:
    assert heard(event("ended"))[1] == []
    preparing, lines = heard(event("checking", 5))
    assert preparing.all() == [Prepared("local:qwen", "checking", 5, 1_117_000_000)]
    assert lines == []


def test_another_process_and_the_loading_are_told() -> None:
    preparing, lines = heard(event("waiting", note="another process is fetching qwen.gguf"))
    assert [each.state for each in preparing.all()] == ["waiting"]
    assert lines == [("info", "local:qwen (1,117 MB): another process is fetching qwen.gguf")]
    preparing, lines = heard(event("loading"))
    assert [each.state for each in preparing.all()] == ["loading"]
    preparing, lines = heard(event("loading"), event("loaded"))
    assert preparing.all() == []
    assert [text for _, text in lines] == ["loading local:qwen", "local:qwen: the loading has ended"]
