"""A judge's preference as a probability, read from the probabilities of the two tokens that can be the verdict.

This is the method of AlpacaEval 2.0: a probability tells more than a verdict, and costs one token. If the provider
returns no token probabilities, the judge is called several times instead, and the verdicts are counted.
"""

import math
from collections.abc import Mapping

from partsong.bench.judging import Heard
from partsong.bench.task import Judge, used
from partsong.errors import ModelError
from partsong.model import NOTHING_USED, Answer, Message, Request, Sampling

TOP = 5  # most likely tokens whose probabilities are requested
TIMES = 5  # number of calls to a judge whose provider returns no probabilities
MAX_TOKENS = 2048  # one token is enough for the verdict, but some judges reason first
TEMPERATURE = 1.0  # leaves the model's probabilities as they are, and lets repeated verdicts differ


async def prefer_by_token(judge: Judge, messages: tuple[Message, ...], first: str, second: str) -> Heard:
    """Ask a judge to name one of two answers. The value is the probability, from 0 to 1, that the judge names `first`.

    messages: prompt of the judge
    first, second: the tokens that stand for the two answers

    Without token probabilities, the value is the share of `TIMES` calls that name `first`.
    """
    usage, words = NOTHING_USED, list[str]()
    verdicts: list[float] = []
    for sample in range(TIMES):
        sampling = Sampling(TEMPERATURE, max_tokens=MAX_TOKENS, top_logprobs=TOP)
        try:
            request = Request(messages, sampling=sampling, sample=sample)
            answer = await judge.answer_to(request, lambda said: _preferred(said, first, second))
        except ModelError as error:
            return Heard(None, "\n".join(words), f"{judge.id}: {error}", usage + (error.usage or NOTHING_USED))
        usage += used(answer)
        words.append(answer.text)
        if (chance := _chance(answer, first, second)) is not None:
            return Heard(chance, answer.text, usage=usage)
        if (preferred := _preferred(answer, first, second)) is None:
            failed = f'{judge.id} was to say "{first}" or "{second}", but said "{answer.text.strip()[:60]}"'
            return Heard(None, "\n".join(words), failed, usage)
        verdicts.append(preferred)
    return Heard(sum(verdicts) / len(verdicts), "\n".join(words), usage=usage)


def _preferred(answer: Answer, first: str, second: str) -> float | None:
    """Return the preference for `first`, from 0 to 1, in one answer of a judge; `None` if the answer names neither.

    The probabilities of the tokens come first. Without them, the text must be one of the two tokens.
    """
    if (chance := _chance(answer, first, second)) is not None:
        return chance
    said = answer.text.strip().strip("\"'`*.")
    return float(said == first) if said in (first, second) else None


def _chance(answer: Answer, first: str, second: str) -> float | None:
    """Return the probability of `first` against `second` in one answer; `None` without such token probabilities."""
    return chance_in(answer.logprobs, first, second) if isinstance(answer.logprobs, tuple) else None


def chance_in(places: tuple[Mapping[str, float], ...], first: str, second: str) -> float | None:
    """Return p(first) / (p(first) + p(second)); `None` if neither token is among the likely tokens anywhere.

    places: for each token of the judge's answer, the natural logarithms of the probabilities of its likely tokens

    The probabilities are read at the first token of the answer that is likely to be `first` or `second`.
    """
    for tokens in places:
        likely = {first: 0.0, second: 0.0}
        for token, logprob in tokens.items():
            if (word := token.strip()) in likely:
                likely[word] += math.exp(logprob)
        if whole := sum(likely.values()):
            return likely[first] / whole
    return None
