"""How often the search of `partsong tune` makes a false claim, and how often it finds what is better.

    python -m benchmarks.worlds [SEARCHES]

Each world is simulated, so that the truth is known (`tests/bench/worlds.py`). In the worlds of the first table, no
recipe is better than another one: each claim is false. In those of the second table, one recipe is 10 points ahead.
Nothing is asked. 500 searches (default) in each world take about 2 minutes of one core.
"""

import sys
import time

from tests.bench.test_tune_worlds import KINDS, ahead, named, null
from tests.bench.worlds import search


def main() -> None:
    searches = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    began = time.process_time()
    for kind in KINDS:
        found = [search(null(kind, seed), seed) for seed in range(searches)]
        tested = sum(each.test is not None for each in found)
        print(f"{kind:12} {sum(each.claimed for each in found):4} false claims of {searches}, {tested} with a test")
    for kind in ("mixture", "vote"):
        found = [search(ahead(kind, seed), seed) for seed in range(searches // 5)]
        print(f"{kind:12} {sum(named(each, kind) for each in found):4} named of {searches // 5}")
    print(f"{time.process_time() - began:,.0f} s of CPU")


if __name__ == "__main__":
    main()
