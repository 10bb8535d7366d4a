"""The folder of a study: outputs, grades, verdicts and payments as JSON lines, and a manifest to identify the study.

A folder belongs to one study. If the manifest of another study is in the folder, the study is refused with the fields
that differ, and no file is changed. Other versions of packages and another cap on the dollars are allowed, and recorded
in the manifest.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from partsong.bench.lines import Lines
from partsong.bench.money import Money
from partsong.bench.task import Grade, Output, Sample, Verdict, key_of, pair_of
from partsong.errors import InputError
from partsong.files import write_file

FREE = ("versions", "max_dollars")  # fields of a manifest that may change from one start to the next


class Folder:
    """The open files of a study.

    path: the folder; created if it does not exist
    manifest: everything that identifies the study, with the field `versions`
    max_dollars: most dollars that the study may cost; no cap by default

    Raises `InputError` if the folder belongs to another study, has other files, or cannot be written.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], max_dollars: Decimal | None = None) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._claim(msgspec.json.decode(msgspec.json.encode({**manifest, "max_dollars": max_dollars})))
        except OSError as problem:
            raise InputError(f"{path}: cannot be written: {problem.strerror}") from None
        with ExitStack() as opened:
            self.outputs = Lines(path / "outputs.jsonl", Output, key_of)
            opened.callback(self.outputs.close)
            self.grades = Lines(path / "grades.jsonl", Grade, key_of)
            opened.callback(self.grades.close)
            self.verdicts = Lines(path / "verdicts.jsonl", Verdict, pair_of)
            opened.callback(self.verdicts.close)
            self.money = Money(path / "money.jsonl", max_dollars)
            opened.callback(self.money.close)
            self.close = opened.pop_all().close

    def remember(self, name: str, value: Any) -> None:
        """Write a decision, such as the choice of baselines, to `name`.json, so that later starts keep the decision."""
        write_file(self.path / f"{name}.json", msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")

    def keep_samples(self, samples: Sequence[Sample]) -> None:
        """Write samples.jsonl unless the file exists, so that the folder can be read without the task."""
        path = self.path / "samples.jsonl"
        if not path.exists():
            write_file(path, b"".join(msgspec.json.encode(each) + b"\n" for each in samples))

    def remembered(self, name: str) -> Any:
        """Return the decision that `remember` wrote under this name; `None` if there is none.

        Raises `InputError` if the file cannot be decoded.
        """
        file = self.path / f"{name}.json"
        return self._read(file) if file.exists() else None

    def _claim(self, asked: dict[str, Any]) -> None:
        """Write the manifest, or compare it with the manifest in the folder. Raises `InputError` for another study."""
        file = self.path / "manifest.json"
        asked["versions"] = [asked["versions"]]
        if not file.exists():
            if any(each.suffix != ".whole" for each in self.path.iterdir()):
                raise InputError(f"{self.path}: has files of something else; name a new folder with --out")
            self.remember("manifest", asked)
            return
        there = self._read(file)
        differing = sorted(
            field for field in {*there, *asked} if field not in FREE and there.get(field) != asked.get(field)
        )
        if differing:
            raise InputError(
                f"{self.path}: is the folder of another study, which differs in {', '.join(differing)}; "
                "name another folder with --out"
            )
        versions = there.get("versions", [])
        asked["versions"] = versions + [each for each in asked["versions"] if each not in versions]
        if asked != there:
            self.remember("manifest", asked)

    def _read(self, file: Path) -> Any:
        try:
            return msgspec.json.decode(file.read_bytes())
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise InputError(f"{file}: cannot be read: {problem}") from None
