"""Run two benchmark commands in turn, A B A B …, and print the ratio of each figure, pair by pair.

    python benchmarks/versus.py [--pairs N] 'COMMAND A' 'COMMAND B'

Each command prints a line like `cpu 7.05 ms a run, 120.3 runs/s, first piece 12.1 ms`. On a machine that is shared with
other programs, the ratio of two neighbouring runs says more than a time. For each figure, B / A is printed as median,
minimum and maximum over the pairs.
"""

import re
import shlex
import statistics
import subprocess
import sys

FIGURES = {"cpu": r"cpu ([\d.]+) ms", "runs/s": r"([\d.]+) runs/s", "first piece": r"first piece ([\d.]+) ms"}


def measure(command: str) -> dict[str, float]:
    line = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True, timeout=300).stdout
    return {name: float(found[1]) for name, pattern in FIGURES.items() if (found := re.search(pattern, line))}


def main(words: list[str]) -> None:
    pairs = int(words[1]) if words[0] == "--pairs" else 5
    first, second = words[-2:]
    ratios: dict[str, list[float]] = {name: [] for name in FIGURES}
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in FIGURES}
    for _ in range(pairs):
        a, b = measure(first), measure(second)
        for name in a.keys() & b.keys():
            values[name].append((a[name], b[name]))
            ratios[name].append(b[name] / a[name])
    for name, found in ratios.items():
        if found:
            a_median, b_median = (statistics.median(column) for column in zip(*values[name], strict=True))
            print(
                f"{name:12} A {a_median:9.2f}   B {b_median:9.2f}   "
                f"B/A {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
