"""Five similarities of one text with each of many, beside a plain loop over pairs with sacreBLEU and scikit-learn.

    python benchmarks/similarity.py

Needs sacreBLEU and scikit-learn. The plain loop gets a part of the questions, and its time is scaled up.
"""

import random
import resource
import time

QUESTIONS, TEXTS, WORDS, PLAIN = 805, 50, 320, 8


def texts(seed: int) -> list[tuple[str, list[str]]]:
    chance = random.Random(seed)
    known = [f"w{number}" for number in range(20_000)]

    def text() -> str:
        return " ".join(known[min(int(chance.paretovariate(0.5)), 19_999)] for _ in range(WORDS))

    return [(text(), [text() for _ in range(TEXTS)]) for _ in range(QUESTIONS)]


def plain(questions: list[tuple[str, list[str]]]) -> None:
    import sacrebleu
    from rapidfuzz.distance import Levenshtein
    from sklearn.feature_extraction.text import TfidfVectorizer

    metrics = [sacrebleu.BLEU(max_ngram_order=order, effective_order=True) for order in (3, 4, 5)]
    for text, others in questions:
        for other in others:
            for metric in metrics:
                metric.sentence_score(text, [other])
            Levenshtein.normalized_similarity(text, other)
        rows = TfidfVectorizer().fit_transform([text, *others])
        (rows @ rows[0].T).toarray()


def main() -> None:
    from partsong.bench.statistics.similarity import similarities

    questions = texts(1)
    before = time.perf_counter()
    similarities(questions)
    between = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    plain(questions[:PLAIN])
    theirs = (time.perf_counter() - between) * QUESTIONS / PLAIN
    ours = between - before
    print(f"{QUESTIONS} questions with {TEXTS} texts of {WORDS} words: {ours:.0f} s and {peak:.2f} GB at most in all")
    print(f"pair by pair it would take {theirs:.0f} s: {theirs / ours:.1f} times as long")


if __name__ == "__main__":
    main()
