"""One proposer of three hangs: how long until the answer begins, with a quorum and without one.

    python benchmarks/hung.py [RUNS AT ONCE]

The models are those of upstream.py: two proposers answer after 0.6 and 1 s, one never answers, and the aggregator
begins after 0.3 s. With `quorum = 2` and a `grace`, the answer must begin no later than the second proposer, plus the
grace, plus the aggregator's first token. Without a quorum the run's deadline decides. Each row is the slowest of the
runs: seconds until the first token, the bound, and their ratio.

Measured in the same way, comparable projects without such a rule waited for 185 to 300 s. Some had not answered after
300 s, and were stopped.
"""

import asyncio
import sys
from collections.abc import Mapping

from upstream import upstream

import partsong
from partsong.configuration import Provider
from partsong.events import AggregationDelta, AnyEvent, RunFinished

PROPOSERS = ("fast-t600", "slow-t1000", "hung-hang")
QUORUM = 1.0  # seconds until two proposers have answered
AGGREGATOR, FIRST = "aggregator-t300", 0.3  # its name, and the seconds until its first token
GRACES = (0.0, 0.5, 2.0)
DEADLINE = 10.0  # seconds, of which proposers share the first 60 %


async def main(at_once: int) -> None:
    print(f"{'':16}{'first token':>12}{'bound':>9}{'ratio':>8}")
    with upstream(0) as port:
        mock = Provider("openai", f"http://127.0.0.1:{port}/v1", concurrency=10_000)
        names = [*(f"mock:{name}" for name in PROPOSERS), f"mock:{AGGREGATOR}"]
        async with partsong.assemble(names, partsong.Configuration(providers={"mock": mock})) as models:
            await asyncio.gather(*(first_token(recipe(quorum=2, grace=0), models) for _ in range(at_once)))  # warm
            for grace in GRACES:
                bound = QUORUM + grace + FIRST
                await row(f"grace {grace:g} s", recipe(quorum=2, grace=grace), models, bound, at_once)
            await row("without quorum", recipe(), models, DEADLINE * 0.6 + FIRST, at_once)


async def row(
    title: str, wanted: partsong.Recipe, models: Mapping[str, partsong.Model], bound: float, at_once: int
) -> None:
    measured = max(await asyncio.gather(*(first_token(wanted, models) for _ in range(at_once))))
    print(f"{title:16}{measured:>10.3f} s{bound:>7.1f} s{measured / bound:>8.3f}")


def recipe(quorum: int | None = None, grace: float | None = None) -> partsong.Recipe:
    agents = tuple(partsong.Agent(f"mock:{name}") for name in PROPOSERS)
    layer = partsong.Layer(agents, quorum=quorum, grace=grace)
    return partsong.Recipe("hung", (layer,), partsong.Aggregator(f"mock:{AGGREGATOR}"), deadline=DEADLINE)


async def first_token(wanted: partsong.Recipe, models: Mapping[str, partsong.Model]) -> float:
    """Perform a run to its end; return the seconds until its answer began. Exits if the run fails."""
    clock = asyncio.get_running_loop().time
    started, first = clock(), 0.0
    last: AnyEvent | None = None

    async def emit(event: AnyEvent) -> None:
        nonlocal first, last
        last = event
        if not first and isinstance(event, AggregationDelta):
            first = clock() - started

    await partsong.perform(wanted, partsong.asking("Why?"), models, emit, watch=False)
    if not isinstance(last, RunFinished):
        raise SystemExit(f"the run did not finish: {last}")
    return first


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
