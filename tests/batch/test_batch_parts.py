"""A batch in parts, in Parquet, in many starts: every question has one line, in order, and the cap is never passed."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partsong.batch.questions import CHECKED, JsonLines, ParquetRows, Part, Place, Questions
from partsong.errors import QuestionError
from tests.cli.test_cli import code_of

RECIPE = """
name = "two"
aggregator = { model = "scripted:z?tokens=3&output=1000", max_tokens = 10 }
[[layers]]
agents = [
    { model = "scripted:a?tokens=3&output=1000", max_tokens = 10 },
    { model = "scripted:b?tokens=3&output=1000", max_tokens = 10 },
]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def ask(count: int) -> None:
    Path("q.jsonl").write_text("".join(f'"Question {number}?"\n' for number in range(count)), encoding="utf-8")


def answer(*arguments: str, out: str = "a.jsonl", source: str = "q.jsonl") -> int:
    return code_of("batch", source, "--out", out, "--recipe", "two.toml", *arguments)


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


texts = st.lists(st.sampled_from(["", " ", '"One?"', '{"question": "é🜁?"}', '"a\\nb?"', "wrong"]), max_size=30)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts, st.integers(1, 9), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_parts_are_the_whole(tmp_path: Path, rows: list[str], count: int, end: str, ended: bool) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(end.join([*rows, ""] if ended else rows).encode())
    whole = [request for request, _ in JsonLines(path).read(Place())]
    parts = [JsonLines(path, Part(index, count)) for index in range(count)]
    found = [list(part.read(part.begin())) for part in parts]
    assert [request for part in found for request, _ in part] == whole
    assert sum(part.count() for part in parts) == JsonLines(path).count() >= len(whole)
    for part, read in zip(parts, found, strict=True):
        places = [part.begin(), *(place for _, place in read)]
        for index, place in enumerate(places):  # a reader may go on from any place
            assert list(part.read(place)) == read[index:]


def parquet(path: Path, rows: Sequence[dict[str, Any]], group: int = 3) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path, row_group_size=group)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_parts_of_a_parquet_file_are_the_whole(tmp_path: Path, count: int) -> None:
    path = tmp_path / "q.parquet"
    parquet(path, [{"question": f"{number}?", "id": f"id{number}", "system": None} for number in range(13)])
    parts: list[Questions] = [ParquetRows(path, Part(index, count)) for index in range(count)]
    found = [request for part in parts for request, _ in part.read(part.begin())]
    assert [(request.line, request.id) for request in found] == [(number + 1, f"id{number}") for number in range(13)]
    middle = [request.line for request, _ in ParquetRows(path).read(Place(5, 5))]
    assert middle == list(range(6, 14))


def test_a_parquet_file_is_answered_as_one(folder: Path) -> None:
    rows = [{"question": f"{number}?", "id": number} for number in range(5)]
    parquet(folder / "q.parquet", rows)
    Path("q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert answer() == 0
    assert answer(source="q.parquet", out="b.parquet") == 0
    from pyarrow import parquet as reader

    table = reader.read_table(folder / "b.parquet").to_pylist()
    assert [(row["id"], row["question"], row["answer"]) for row in table] == [
        (str(line["id"]), line["question"], line["answer"]) for line in lines("a.jsonl")
    ]
    assert [row["dollars"] for row in table] == [Decimal(line["usage"]["dollars"]) for line in lines("a.jsonl")]
    parquet(folder / "odd.parquet", [{"prompt": "a"}])
    assert answer(source="odd.parquet") == 2


def test_wrong_rows_of_a_parquet_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    parquet(path, [{"question": "a?"}, {"question": " "}, {"question": None}])
    wrong = [request.wrong for request, _ in ParquetRows(path).read(Place())]
    assert wrong[0] == ""
    assert "row 2: the question is empty" in wrong[1]
    assert "row 3" in wrong[2]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(QuestionError, match="cannot be read as Parquet"):
        ParquetRows(tmp_path / "bad.parquet")


def test_parts_of_a_batch_follow_each_other(folder: Path) -> None:
    ask(23)
    assert answer(out="whole.jsonl") == 0
    for index in (2, 0, 1):
        assert answer("--shard", f"{index}/3") == 0
    names = sorted(path.name for path in folder.glob("a*"))
    assert names == [f"a-0000{index}-of-00003.jsonl" for index in range(3)]
    assert b"".join(Path(name).read_bytes() for name in names) == Path("whole.jsonl").read_bytes()
    for wrong in ("3/3", "1", "a/b", "-1/3", "0/0", "1/1000000000000"):
        assert answer("--shard", wrong) == 2
    ask(1)
    assert answer("--shard", "1/2") == 0  # a part without a question
    assert Path("a-00001-of-00002.jsonl").read_bytes() == b""


def test_parts_share_the_cap(folder: Path) -> None:
    ask(40)
    spent = Decimal(0)
    for index in range(2):
        assert answer("--shard", f"{index}/2", "--max-dollars", "0.2") == 1
        with closing(connect(f"a-0000{index}-of-00002.jsonl.partial")) as connection:
            spent += Decimal(connection.execute("SELECT spent FROM state").fetchone()[0])
    assert Decimal("0.1") < spent <= Decimal("0.2")


def connect(path: str) -> Any:
    import sqlite3

    return sqlite3.connect(path)


def test_a_cap_is_never_passed_however_often_the_batch_is_killed(folder: Path) -> None:
    ask(300)
    command = [sys.executable, "-m", "partsong", "batch", "q.jsonl", "--out", "a.jsonl", "--recipe", "slow.toml"]
    capped = [*command, "--max-dollars", "1.5", "--at-once", "4"]
    Path("slow.toml").write_text(Path("two.toml").read_text().replace("z?", "z?first=0.03&"), encoding="utf-8")
    chance = random.Random(7)
    killed = 0
    for _ in range(8):
        process = subprocess.Popen(capped)
        try:
            process.wait(chance.uniform(0.6, 1.4))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    subprocess.run(capped, check=False)
    with closing(connect("state/journal.db")) as connection:
        paid = [Decimal(dollars) for (dollars,) in connection.execute("SELECT dollars FROM calls")]
    worst = 3 * Decimal("0.01")  # of a run: three calls of at most 10 tokens
    lost = killed * 4 * worst  # at most: what was under way when a process died counts as spent, wherever it was
    assert killed
    assert Decimal("1.5") - lost - worst < sum(paid) <= Decimal("1.5")
    assert subprocess.run(command, check=False).returncode == 0
    assert [line["id"] for line in lines("a.jsonl")] == list(range(1, 301))


def test_questions_that_change_are_asked_and_the_others_are_not(folder: Path) -> None:
    ask(6)
    Path("two.toml").write_text(Path("two.toml").read_text().replace("z?", "z?fail=server&chance=0.4&"))
    assert answer() == 1
    before = {line["question"]: line for line in lines("a.jsonl") if line["answer"] is not None}
    assert 0 < len(before) < 6
    with Path("q.jsonl").open("a") as file:
        file.write('"Another?"\n')
    Path("q.jsonl").write_text('"First?"\n' + Path("q.jsonl").read_text())
    answer()
    after = {line["question"]: line for line in lines("a.jsonl")}
    assert list(after) == ["First?", *(f"Question {number}?" for number in range(6)), "Another?"]
    assert all(after[question]["answer"] == line["answer"] for question, line in before.items())


def test_in_a_long_file_a_wrong_line_is_a_question_that_failed(folder: Path) -> None:
    count = CHECKED + 50
    Path("one.toml").write_text('name = "one"\nlayers = []\naggregator = "scripted:z?text=Yes"\n')
    rows = [f'"{number}?"' for number in range(count)]
    rows[CHECKED + 10] = "wrong"
    Path("q.jsonl").write_text("\n".join(rows), encoding="utf-8")
    Path("partsong.toml").write_text('store = "off"\n')
    arguments = ("batch", "q.jsonl", "--out", "a.jsonl", "--recipe", "one.toml", "--at-once", "50")
    assert code_of(*arguments) == 1
    told = lines("a.jsonl")
    assert [line["id"] for line in told] == list(range(1, count + 1))
    failed = [line for line in told if line["answer"] is None]
    assert [line["id"] for line in failed] == [CHECKED + 11]
    assert failed[0]["error"]["cause"] == "invalid"
    assert f"line {CHECKED + 11}" in failed[0]["error"]["message"]
    # The next start asks only what has failed: the answers before are not read again, and the file is as it was.
    assert code_of(*arguments) == 1
    assert lines("a.jsonl") == told


def test_a_price_is_told_and_nothing_is_asked(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask(30)
    assert answer("--dry-run", "--max-dollars", "0.0001") == 0
    told = capfd.readouterr().out
    assert told.splitlines()[1].split()[:2] == ["30", "90"]
    assert "Nothing was asked" in told
    assert "typically pays for" in told
    assert sorted(path.name for path in folder.iterdir()) == ["q.jsonl", "two.toml"]
    assert code_of("batch", "q.jsonl", "--recipe", "two.toml") == 2  # no --out
