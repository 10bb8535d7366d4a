"""A judge's preference as a probability, read from the probabilities of the two tokens that could be the verdict.

This is the method of AlpacaEval 2.0: a probability is finer than a verdict, and costs one token. If the provider
returns no probabilities, the judge is asked several times instead, and the verdicts are counted.
"""

import math
from collections.abc import Mapping

from partsong.bench.judging import Heard
from partsong.bench.task import Judge, used
from partsong.errors import ModelError
from partsong.model import NOTHING_USED, Message, Request, Sampling

TOP = 5  # tokens whose probabilities are requested
TIMES = 5  # calls to a judge that returns no probabilities
MAX_TOKENS = 2048  # one would do, but for judges that reason first
TEMPERATURE = 1.0  # at which the probabilities are the model's own, and at which verdicts that are counted differ


async def prefer_by_token(judge: Judge, messages: tuple[Message, ...], first: str, second: str) -> Heard:
    """The probability, from 0 to 1, that the judge says `first` and not `second`."""
    usage, words = NOTHING_USED, list[str]()
    verdicts: list[float] = []
    for sample in range(TIMES):
        sampling = Sampling(TEMPERATURE, max_tokens=MAX_TOKENS, top_logprobs=TOP)
        try:
            answer = await judge.ask(Request(messages, sampling=sampling, sample=sample))
        except ModelError as error:
            return Heard(None, "\n".join(words), f"{judge.id}: {error}", usage + (error.usage or NOTHING_USED))
        usage += used(answer)
        words.append(answer.text)
        if isinstance(answer.logprobs, tuple) and (chance := chance_in(answer.logprobs, first, second)) is not None:
            return Heard(chance, answer.text, usage=usage)
        said = answer.text.strip().strip("\"'`*.")
        if said not in (first, second):
            failed = f'{judge.id} was to say "{first}" or "{second}", but said "{answer.text.strip()[:60]}"'
            return Heard(None, "\n".join(words), failed, usage)
        verdicts.append(float(said == first))
    return Heard(sum(verdicts) / len(verdicts), "\n".join(words), usage=usage)


def chance_in(places: tuple[Mapping[str, float], ...], first: str, second: str) -> float | None:
    """The probability of `first` as a share of both, at the first token that may be either; `None` if there is none."""
    for tokens in places:
        likely = {first: 0.0, second: 0.0}
        for token, logprob in tokens.items():
            if (word := token.strip()) in likely:
                likely[word] += math.exp(logprob)
        if whole := sum(likely.values()):
            return likely[first] / whole
    return None
