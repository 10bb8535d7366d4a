"""`partsong batch` with many questions: does its memory stay flat, and its time linear?

    python benchmarks/batch.py [QUESTIONS, 10000,100000] [STORE, full] [AT ONCE, 64]

Each number of questions is a batch of its own, in a process of its own: two scripted proposers and a scripted
aggregator, which answer at once. The columns:

    begins      seconds until the first answer is kept
    seconds     seconds until the file of answers is there
    a second    questions a second, over the whole time
    MB          most resident memory of the process
    store       bytes of the store for each question
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = """
name = "three"
layers = [{ agents = ["scripted:a?text=one+and+two", "scripted:b?text=one"] }]
aggregator = "scripted:z?text=So+it+is"
"""


def kept(path: Path) -> int:
    """Bytes of the log of the partial file, which the batch itself has locked."""
    return sum(each.stat().st_size for each in path.parent.glob(path.name + ".partial-wal"))


def run(folder: Path, at_once: int) -> tuple[float, float, float]:
    """Run the batch; seconds until its first answer and until its end, and most resident MB."""
    out = folder / "answers.jsonl"
    command = [sys.executable, "-m", "partsong", "batch", "questions.jsonl", "--out", out.name, "--recipe"]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "three.toml", "--at-once", str(at_once)], cwd=folder, env=environment(folder))
    first = 0.0
    while process.poll() is None:
        if not first and kept(out) > 100_000:
            first = time.perf_counter() - began
        time.sleep(0.02)
    whole = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(process.returncode)
    return first or whole, whole, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PARTSONG_STATE": str(folder / "state"), "HOME": str(folder)}


def measure(count: int, store: str, at_once: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "three.toml").write_text(RECIPE)
        (folder / "partsong.toml").write_text(f'store = "{store}"\n')
        with (folder / "questions.jsonl").open("w") as file:
            file.writelines(f'"Is number {number} a prime number, and why?"\n' for number in range(count))
        first, whole, memory = run(folder, at_once)
        lines = sum(1 for _ in (folder / "answers.jsonl").open("rb"))
        assert lines == count, f"{lines} answers of {count} questions"
        size = sum(path.stat().st_size for path in (folder / "state").glob("*")) if store != "off" else 0
    row = (f"{count:,}", store, f"{first:.1f}", f"{whole:.1f}", f"{count / whole:,.0f}", f"{memory:.0f}")
    print(f"| {' | '.join(row)} | {size / count:,.0f} |", flush=True)


def main() -> None:
    counts = [int(part) for part in (sys.argv[1] if len(sys.argv) > 1 else "10000,100000").split(",")]
    store = sys.argv[2] if len(sys.argv) > 2 else "full"
    at_once = int(sys.argv[3]) if len(sys.argv) > 3 else 64
    print("| questions | store | begins | seconds | a second | MB | store bytes a question |")
    print("| --: | --- | --: | --: | --: | --: | --: |")
    for count in counts:
        measure(count, store, at_once)


if __name__ == "__main__":
    main()
