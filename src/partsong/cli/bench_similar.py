"""`partsong bench similar`: tests on stored judgments whether better outputs are more similar to aggregated outputs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from partsong.cli.json_output import print_json
from partsong.cli.study import need_statistics
from partsong.cli.table import print_table


def similar(
    place: Annotated[Path, Parameter(metavar="FOLDER", help="Folder with outputs.parquet and preferences.parquet.")],
    /,
    *,
    aggregate: Annotated[
        str, Parameter(metavar="MODEL", help="Model in outputs.parquet whose outputs are the aggregated ones.")
    ],
    seed: Annotated[int, Parameter(metavar="S", help="Seed of the bootstrap intervals. Default: 0.")] = 0,
    json: Annotated[bool, Parameter(help="Print the result as one JSON document.")] = False,
) -> int:
    """Correlate the similarity of outputs to the aggregated ones with the preferences of a judge."""
    need_statistics()
    from partsong.bench.scoring.similar import similar_in

    found = similar_in(place, aggregate, seed)
    if json:
        print_json(found)
        return 0

    def cell(name: str) -> str:
        rho = found.rho.get(name)
        return "–" if rho is None else f"{rho.mean:.3f} [{rho.low:.3f}, {rho.high:.3f}]"

    names = [name for name in found.rho if "," not in name]
    print_table(
        ("similarity", "Spearman's rho", "with length taken out", "instructions"),
        [(name, cell(name), cell(f"{name}, length taken out"), f"{found.rho[name].n:,}") for name in names],
    )
    print(f"\n{aggregate} beside {found.models:,} models; means over instructions, with their 95 % intervals")
    return 0
