"""The similarity of one text to several other texts by five measures. Each measure is from 0 to 1; equal texts have 1.

* BLEU-3, BLEU-4 and BLEU-5: sentence BLEU with n-grams of up to 3, 4 and 5 tokens. The one text is the hypothesis, and
  the other text is its only reference. Brevity penalty and exponential smoothing are those of sacreBLEU's defaults.
* TF-IDF: the cosine of token counts, weighted with the smooth idf ln((1 + N) / (1 + df)) + 1 over all texts.
* Levenshtein: 1 − distance / length of the longer text, both in tokens.

A token is a word (letters, digits and underscores) or a single other character, in lower case. A text is an array of
token ids (`Ids`), of shape (number of tokens,). N-grams are hashed, and counted for all texts of a question together.
Comparing one pair of texts after another took minutes and gigabytes for 50 × 805 pairs.
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
    """An id for each token, and the number of texts that contain the token (document frequency).

    texts: number of texts read so far
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._counts = np.zeros(1024, dtype=np.int64)
        self.texts = 0

    def read(self, text: str) -> Ids:
        """Return the token ids of a text, and count the text in the document frequencies."""
        numbers = self._numbers
        ids = np.array([numbers.setdefault(token, len(numbers)) for token in tokens_of(text)], dtype=np.int64)
        if len(numbers) > len(self._counts):
            self._counts = np.concatenate((self._counts, np.zeros(2 * len(numbers), dtype=np.int64)))
        self._counts[np.unique(ids)] += 1
        self.texts += 1
        return ids

    def idf(self, ids: Ids) -> Numbers:
        """Return the inverse document frequency of each token, over the texts read so far: the shape of `ids`."""
        return np.log((1 + self.texts) / (1 + self._counts[ids])) + 1


def tokens_of(text: str) -> list[str]:
    """Split a text into tokens, in lower case."""
    return _TOKEN.findall(text.lower())


def similarities(questions: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[Numbers]]:
    """Compute all measures for all questions. A question is a pair: a text, and the other texts to compare it with.

    Returns a list for each name in `MEASURES`. The list has an array for each question, and the array has the
    similarity of the text to each of the other texts, in their order.

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
    """Return sentence BLEU, from 0 to 1, of the text against each of the other texts.

    The list has an array for each of `ORDERS`, each of shape (number of other texts,). Texts without a common token
    have 0.
    """
    lengths = np.array([len(other) for other in others], dtype=np.int64)
    logs = np.zeros(len(others))
    found: list[Numbers] = []
    smoothing = np.ones(len(others))
    penalty = np.minimum(0.0, 1 - lengths / max(len(text), 1))
    for order in range(1, max(ORDERS) + 1):
        grams, counts = np.unique(_grams(text, order), return_counts=True)
        total = int(counts.sum())
        if total:  # n-grams longer than the text are left out (sacreBLEU's effective order)
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
    """Return the TF-IDF cosine, from 0 to 1, of the text and each of the other texts: shape (number of other texts,).

    vocabulary: the vocabulary that has read all texts of all questions
    """
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
    """Return 1 − distance / length of the longer text, for the text and each of the other texts.

    The distance is the Levenshtein distance in tokens. The array has the shape (number of other texts,).
    """
    from rapidfuzz.distance import Levenshtein

    tokens = text.tolist()
    return np.array([Levenshtein.normalized_similarity(tokens, other.tolist()) for other in others], dtype=np.float64)


def _grams(ids: Ids, order: int) -> Ids:
    """Return the hashes of all n-grams of `order` tokens, in text order; empty if the text is shorter."""
    if len(ids) < order:
        return np.zeros(0, dtype=np.int64)
    grams = np.zeros(len(ids) - order + 1, dtype=np.int64)
    with np.errstate(over="ignore"):
        for index in range(order):
            grams = grams * _STEP + ids[index : len(ids) - order + 1 + index] + 1
    return grams


def _common(grams: Ids, counts: Ids, others: Sequence[Ids], order: int) -> Numbers:
    """Count the n-grams that each of the other texts shares with the text: shape (number of other texts,).

    grams, counts: the different n-grams of the text, sorted, and how often each occurs in the text
    order: number of tokens of an n-gram

    An n-gram counts at most as often as it occurs in either text (clipped counts, as in BLEU).
    """
    pieces = [_grams(other, order) for other in others]
    everything = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
    whose = np.repeat(np.arange(len(others)), [len(piece) for piece in pieces])
    indices = np.minimum(np.searchsorted(grams, everything), len(grams) - 1)
    shared = grams[indices] == everything
    table = np.bincount(whose[shared] * len(grams) + indices[shared], minlength=len(others) * len(grams))
    return np.asarray(np.minimum(table.reshape(len(others), len(grams)), counts).sum(axis=1), dtype=np.float64)


def _common_tokens(text: Ids, others: Sequence[Ids]) -> NDArray[np.bool_]:
    """Return whether each of the other texts shares a token with the text: shape (number of other texts,).

    Without a shared token BLEU must be 0, but smoothing would make it positive.
    """
    return np.array([bool(np.isin(text, other).any()) for other in others], dtype=np.bool_)
