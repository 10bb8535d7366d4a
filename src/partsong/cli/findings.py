"""What an analyst has found, as text: how much of each kind, and the entries with the addresses of their seats."""

from partsong.analysis import Analysis, as_text


def findings(analysis: Analysis, layer: int) -> str:
    """Return the entries of an analysis as lines of text, and how many were left out.

    layer: index of the layer whose proposals were compared
    """
    text = as_text(analysis, lambda seat: f"({layer}, {seat})") or "Nothing found."
    return f"{text}\n\n{left_out(analysis)}." if analysis.dropped else text


def counts(analysis: Analysis) -> str:
    """Return how much was found of each kind, and how many entries were left out, as a line of text."""
    kinds = (
        (len(analysis.agreements), "agreement"),
        (len(analysis.contradictions), "contradiction"),
        (len(analysis.single), "single point"),
        (len(analysis.gaps), "gap"),
    )
    found = ", ".join(f"{count:,} {kind}{'s' * (count != 1)}" for count, kind in kinds if count)
    return "; ".join(part for part in (found or "nothing found", analysis.dropped and left_out(analysis)) if part)


def left_out(analysis: Analysis) -> str:
    """Return how many entries were left out, and why, as a clause."""
    entries = "entry was" if analysis.dropped == 1 else "entries were"
    return f"{analysis.dropped:,} {entries} left out, mostly for quotes that are not there"
