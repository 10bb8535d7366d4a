"""The similarity of one text to several others by five measures, each from 0 to 1 for equal texts.

* BLEU with 3-, 4- and 5-grams: the BLEU of a sentence, with the text as the hypothesis and the other text as its only
  reference. Brevity penalty and exponential smoothing are those of sacreBLEU's defaults.
* TF-IDF: the cosine of token counts, weighted with the smooth idf ln((1 + N) / (1 + df)) + 1 over all texts.
* Levenshtein: 1 − distance / length of the longer text, both in tokens.

A token is a word (letters, digits and underscores) or a single other character, in lower case. Token counts are
compared as arrays of hashed n-grams, for all texts of a question together, because one pair after another took minutes
and gigabytes for 50 × 805 pairs.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Ids = NDArray[np.int64]

ORDERS = (3, 4, 5)
MEASURES = (*(f"BLEU-{order}" for order in ORDERS), "TF-IDF", "Levenshtein")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_STEP = np.int64(1_000_003)  # n-grams are hashed as numbers in this base, modulo 2⁶⁴


class Vocabulary:
    """An id for each token, and the number of texts that contain the token."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._counts = np.zeros(1024, dtype=np.int64)
        self.texts = 0

    def read(self, text: str) -> Ids:
        """The ids of a text's tokens. The text is counted."""
        numbers = self._numbers
        ids = np.array([numbers.setdefault(token, len(numbers)) for token in tokens_of(text)], dtype=np.int64)
        if len(numbers) > len(self._counts):
            self._counts = np.concatenate((self._counts, np.zeros(2 * len(numbers), dtype=np.int64)))
        self._counts[np.unique(ids)] += 1
        self.texts += 1
        return ids

    def idf(self, ids: Ids) -> Numbers:
        """The idf weight of each token."""
        return np.log((1 + self.texts) / (1 + self._counts[ids])) + 1


def tokens_of(text: str) -> list[str]:
    """The tokens of a text."""
    return _TOKEN.findall(text.lower())


def similarities(questions: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[Numbers]]:
    """For each measure, a list with an array for each question. A question is a text and the texts to compare it with.

    The texts are kept as token ids: 805 questions with 50 texts of 2,000 characters need about 200 MB.
    """
    vocabulary = Vocabulary()
    read: list[tuple[Ids, list[Ids]]] = []
    found: dict[str, list[Numbers]] = {name: [] for name in MEASURES}
    for text, others in questions:
        read.append((vocabulary.read(text), [vocabulary.read(other) for other in others]))
    for ids, each in read:
        for name, values in zip(MEASURES, bleu(ids, each), strict=False):
            found[name].append(values)
        found["TF-IDF"].append(tf_idf(ids, each, vocabulary))
        found["Levenshtein"].append(levenshtein(ids, each))
    return found


def bleu(text: Ids, others: Sequence[Ids]) -> list[Numbers]:
    """Sentence BLEU of the text against each of the others, for each of `ORDERS`."""
    lengths = np.array([len(other) for other in others], dtype=np.int64)
    logs = np.zeros(len(others))
    found: list[Numbers] = []
    smoothing = np.ones(len(others))
    penalty = np.minimum(0.0, 1 - lengths / max(len(text), 1))
    for order in range(1, max(ORDERS) + 1):
        grams, counts = np.unique(_grams(text, order), return_counts=True)
        total = int(counts.sum())
        if total:  # an order longer than the text does not count (sacreBLEU's effective order)
            matches = _common(grams, counts, others, order)
            none = matches == 0
            smoothing[none] *= 2
            precision = np.where(none, 1 / (smoothing * total), matches / total)
            logs = logs + np.log(precision)
        if order in ORDERS:
            orders = min(order, len(text))
            value = np.exp(logs / orders + penalty) if orders else np.zeros(len(others))
            found.append(np.where(_common_tokens(text, others) if orders else False, value, 0.0))
    return found


def tf_idf(text: Ids, others: Sequence[Ids], vocabulary: Vocabulary) -> Numbers:
    """The cosine similarity of the text and each of the others."""
    tokens, counts = np.unique(text, return_counts=True)
    weights = counts * vocabulary.idf(tokens)
    length = float(np.sqrt((weights**2).sum()))
    found = np.zeros(len(others))
    for index, other in enumerate(others):
        theirs, numbers = np.unique(other, return_counts=True)
        weighed = numbers * vocabulary.idf(theirs)
        size = float(np.sqrt((weighed**2).sum()))
        if length and size:
            indices = np.minimum(np.searchsorted(tokens, theirs), len(tokens) - 1)
            shared = tokens[indices] == theirs
            found[index] = float((weights[indices[shared]] * weighed[shared]).sum()) / (length * size)
    return found


def levenshtein(text: Ids, others: Sequence[Ids]) -> Numbers:
    """1 − the Levenshtein distance between the text and each of the others, divided by the longer length."""
    from rapidfuzz.distance import Levenshtein

    tokens = text.tolist()
    return np.array([Levenshtein.normalized_similarity(tokens, other.tolist()) for other in others], dtype=np.float64)


def _grams(ids: Ids, order: int) -> Ids:
    """A hash for each n-gram of the text, in order."""
    if len(ids) < order:
        return np.zeros(0, dtype=np.int64)
    grams = np.zeros(len(ids) - order + 1, dtype=np.int64)
    with np.errstate(over="ignore"):
        for index in range(order):
            grams = grams * _STEP + ids[index : len(ids) - order + 1 + index] + 1
    return grams


def _common(grams: Ids, counts: Ids, others: Sequence[Ids], order: int) -> Numbers:
    """For each of the others, the number of n-grams that it shares with the text (clipped counts, as in BLEU)."""
    pieces = [_grams(other, order) for other in others]
    everything = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
    whose = np.repeat(np.arange(len(others)), [len(piece) for piece in pieces])
    indices = np.minimum(np.searchsorted(grams, everything), len(grams) - 1)
    shared = grams[indices] == everything
    table = np.bincount(whose[shared] * len(grams) + indices[shared], minlength=len(others) * len(grams))
    return np.asarray(np.minimum(table.reshape(len(others), len(grams)), counts).sum(axis=1), dtype=np.float64)


def _common_tokens(text: Ids, others: Sequence[Ids]) -> NDArray[np.bool_]:
    """For each of the others, whether it shares a token with the text. If not, smoothing would make BLEU positive."""
    return np.array([bool(np.isin(text, other).any()) for other in others], dtype=np.bool_)
