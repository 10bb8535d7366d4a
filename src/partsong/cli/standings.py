"""The result of a judged study: one sentence, the win rate of each contestant, and how often each wins against each."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from partsong.bench.report import Section
from partsong.bench.runner import Study
from partsong.bench.sheet import csv_of
from partsong.cli.printable import single_line
from partsong.cli.table import print_table
from partsong.files import write_file

if TYPE_CHECKING:
    from partsong.bench.comparison import Difference
    from partsong.bench.statistics.intervals import Interval
    from partsong.bench.wins import Duels


class Standings:
    """Win rates and matrix of a study.

    headline: the result as one sentence
    rates: win rates by contestant
    sections: the tables for the report
    """

    def __init__(self, study: Study, duels: "Duels", differences: "Sequence[Difference]") -> None:
        from partsong.bench.wins import as_percent, headline, matrix, win_rates

        names = list(dict.fromkeys([*study.contestants, *(name for pair in duels for name in pair)]))
        self.folder = study.folder.path
        self.rates: dict[str, Interval] = win_rates(duels)
        self.headline = headline(differences, self.rates) if self.rates else self._alone(study)
        won = [
            (name, as_percent(rate), f"{rate.n:,}")
            for name, rate in sorted(self.rates.items(), key=lambda each: -each[1].mean)
        ]
        rows = matrix(names, duels)
        self.sections = [
            Section("How often each contestant wins its comparisons", ("contestant", "win rate", "prompts"), won),
            Section("How often the contestant of the row wins against that of the column", ("", *names), rows),
        ]

    def _alone(self, study: Study) -> str:
        """Return the sentence for a study without a comparison: the mean grade of its first contestant with grades."""
        from partsong.bench.comparison import quality, values_of

        for name in study.contestants:
            if values := values_of(study.grades.values(), name):
                mean = quality(values, study.task.scale)
                return f"{name} has a mean grade of {mean.mean:.2f} [{mean.low:.2f}, {mean.high:.2f}], n = {mean.n:,}"
        return "the judge has given no verdict"

    def show(self) -> None:
        """Print the sentence and both tables, and write the tables as CSV into the folder of the study."""
        for section, name in zip(self.sections, ("win-rates", "win-matrix"), strict=True):
            if not section.rows:
                continue
            print_table(section.headings, section.rows)
            print()
            write_file(self.folder / f"{name}.csv", csv_of(section.headings, section.rows))
        print(single_line(self.headline, sys.stdout.encoding))
