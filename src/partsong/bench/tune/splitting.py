"""Splits prompts into a part to choose on and a part held out, so that no choice sees what the test is made of.

The split depends on the seed and on the texts alone, and not on the order of the file. Equal prompts, compared without
case, punctuation and white space, are one group, and a group is on one side. Each stratum is split in the same
proportion.
"""

import hashlib
import random
import re
import unicodedata
from collections.abc import Sequence

from msgspec import Struct

from partsong.bench.task import Sample

CHOOSE = 0.4  # share of the prompts to choose on
STRATA = ("category", "kind", "subject", "topic", "type", "level", "source")  # labels that may divide prompts
# Quotes, brackets and marks of sentences that stand beside no letter or digit on one side.
MARKS = re.compile(r"(?<!\w)[\"'“”‘’«»(\[]+|[\"'“”‘’«»)\].,;:!?…]+(?!\w)")
FEWEST = 5  # groups of a stratum of its own; smaller strata are one stratum together


class Split(Struct, frozen=True):
    """The two parts of a file of prompts, in the order of the file.

    choose: samples to choose on
    held: samples that are held out, for the test
    digest: identifies the held-out part by its texts, whatever their order: 64 hexadecimal digits
    stratum: label by which the prompts were stratified; empty for none
    repeated: number of samples whose prompt occurs in an earlier sample
    """

    choose: tuple[Sample, ...]
    held: tuple[Sample, ...]
    digest: str
    stratum: str
    repeated: int


def split(samples: Sequence[Sample], seed: int) -> Split:
    """Split the samples by the seed: 40 of 100 to choose on, and 60 held out.

    Of a repeated prompt, only the first sample is kept: a second one would count as evidence that it is not.
    """
    groups: dict[str, Sample] = {}
    for sample in samples:
        groups.setdefault(normalised(sample), sample)
    stratum = stratum_of(list(groups.values()))
    strata: dict[str, list[str]] = {}
    for key, sample in groups.items():
        strata.setdefault(sample.labels.get(stratum, ""), []).append(key)
    small = [name for name, keys in strata.items() if len(keys) < FEWEST]
    if small and len(strata) > 1:
        # A label that no other prompt has would else decide by itself on which side its prompt is.
        strata["\0small"] = [key for name in small for key in strata.pop(name)]
    chosen: set[str] = set()
    owed = 0.0
    for name in sorted(strata):
        keys = sorted(strata[name], key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest())
        owed += CHOOSE * len(keys)  # carried from stratum to stratum, so that the whole is split 40 to 60 as well
        count = min(len(keys), max(0, round(owed)))
        owed -= count
        chosen.update(keys[:count])
    held = [key for key in groups if key not in chosen]
    return Split(
        tuple(sample for key, sample in groups.items() if key in chosen),
        tuple(groups[key] for key in held),
        digest_of(held),
        stratum,
        len(samples) - len(groups),
    )


def normalised(sample: Sample) -> str:
    """Return the text of a prompt in a form in which prompts that differ in case, spaces or punctuation are equal.

    Only quotes, brackets and marks at the end of a word are left out: "2 + 3" and "2 - 3" are different prompts.
    """
    text = unicodedata.normalize("NFKC", "\n".join((sample.system, *sample.turns))).casefold()
    return " ".join(MARKS.sub(" ", text).split())


def digest_of(keys: Sequence[str]) -> str:
    """Return a digest of normalised prompts, whatever their order."""
    parts = sorted(hashlib.sha256(key.encode()).hexdigest() for key in keys)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def stratum_of(samples: Sequence[Sample]) -> str:
    """Return the label by which prompts are stratified; empty for none.

    The names in `STRATA` come first, then the other labels by name. A label divides the prompts if it has at least two
    values, and on average at least `FEWEST` prompts for each value.
    """
    others = sorted({name for sample in samples for name in sample.labels} - {*STRATA})
    for name in (*STRATA, *others):
        values = {sample.labels.get(name, "") for sample in samples}
        if 2 <= len(values) <= len(samples) / FEWEST:
            return name
    return ""


def shuffled(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Return the samples in a random order, so that the first part of them is a fair sample of all."""
    order = list(samples)
    random.Random(seed).shuffle(order)
    return order
