"""Models that follow a script: text, latency, failures, length and price are the same in every run.

Scripted models are for tests, documentation and simulation; they need no key and no network. The script is part of the
model's id, `scripted:alice?tokens=40&first=0.05&each=0.01`, so a recipe needs nothing beside. The text of a scripted
model depends on its name, its seed and the request, and on nothing else.
"""

import asyncio
import hashlib
import random
import re
from decimal import Decimal
from typing import Any, cast
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from partsong.errors import CAUSES, Cause, ConfigurationError, ModelError
from partsong.ids import shown
from partsong.model import Answer, Request, Send, Terms, Text, TextDelta, Usage, billed
from partsong.toml import closest
from partsong.wire.tokens import estimate_tokens

WORDS = (  # noqa: SIM905  (a list of words reads worse than the words)
    "the of a light sky blue because air shorter waves scatter more than longer ones so that when sun is high we see "
    "it from every side and at evening its way through air gets long until only red remains which answers your question"
).split()


# Words of an answer. Each is an object in memory, and a further text is said as one piece.
MOST_WORDS = 100_000
MOST: dict[str, int] = {
    "tokens": MOST_WORDS,
    "first": 3_600,
    "each": 3_600,
    "chance": 1,
    "after": MOST_WORDS,
    "seed": 2**63,
    "input": 1_000_000,
    "output": 1_000_000,
}
NUMBER = r"(\d{1,20}(\.\d{0,20})?|\.\d{1,20})(e[+-]?\d{1,2})?"  # short, so that reading it takes no time
MOST_PLACES = 12  # digits after the point


class Script(Struct, frozen=True):
    """The script of a model, made of the fields after the `?` of its id. Prices are in dollars per million tokens.

    Whoever may choose a model may write any numbers. `MOST` has the highest value of each; the lowest is 0.

    text: the answer, word for word; "" (default) for `tokens` random words
    tokens: number of random words; 20 by default
    first: seconds before the first token; 0 by default
    each: seconds before each later token; 0 by default
    fail: cause of a failure (see `errors.Cause`); "" (default) for no failure
    chance: probability of the failure, from 0 to 1; 1 by default
    after: number of tokens before the failure; 0 by default
    echo: whether the answer is the last message of the request; False by default
    seed: seed of the random words; 0 by default
    input: price of input tokens; 0 by default
    output: price of output tokens; 0 by default
    """

    text: str = ""
    tokens: int = 20
    first: float = 0.0
    each: float = 0.0
    fail: str = ""
    chance: float = 1.0
    after: int = 0
    echo: bool = False
    seed: int = 0
    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)


class Scripted:
    """A model that follows a script. `name`: the model's id without `scripted:`, with the script after a `?`.

    Raises `ConfigurationError` if the script has an unknown field or a wrong value.
    """

    def __init__(self, name: str) -> None:
        self.name, _, query = name.partition("?")
        self.script = read_script(query, name)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        script = self.script
        chance = self.dice(request)
        failing = bool(script.fail) and chance.random() < script.chance
        tokens = self.words(request, chance)
        said = tokens[: script.after] if failing else tokens
        await asyncio.sleep(script.first)
        if send is None:
            await asyncio.sleep(script.each * max(0, len(said) - 1))
        else:
            for index, token in enumerate(said):
                if index and script.each:
                    await asyncio.sleep(script.each)
                await send(TextDelta(token))
        usage = self.usage(request, len(said))
        if failing:
            raise ModelError(
                f"{self.name} failed, as its script says", cast("Cause", script.fail), usage=usage if said else None
            )
        limit = request.sampling.max_tokens
        cut = limit is not None and len(tokens) == limit < self.length(request)
        return Answer((Text("".join(said)),), "length" if cut else "stop", usage, f"scripted:{self.name}")

    def dice(self, request: Request) -> random.Random:
        """Return a random generator whose seed depends on nothing but the model's name and seed, and the request."""
        asked = msgspec.json.encode((self.name, self.script.seed, replace(request, terms=Terms())))
        return random.Random(hashlib.sha256(asked).digest())

    def words(self, request: Request, chance: random.Random) -> list[str]:
        """Return the tokens of the answer, at most `max_tokens` of the request."""
        script = self.script
        if script.echo or script.text:
            text = request.messages[-1].text if script.echo else script.text
            words = text.split(" ", MOST_WORDS)
        else:
            words = [f"{self.name}:", *(chance.choice(WORDS) for _ in range(max(0, script.tokens - 1)))]
        tokens = [f" {word}" if index else word for index, word in enumerate(words)]
        return tokens[: request.sampling.max_tokens]

    def length(self, request: Request) -> int:
        """Return the number of tokens of the answer without a limit."""
        if self.script.echo or self.script.text:
            text = request.messages[-1].text if self.script.echo else self.script.text
            return min(text.count(" "), MOST_WORDS) + 1
        return max(1, self.script.tokens)

    def usage(self, request: Request, output: int) -> Usage:
        """Return the usage of a call, priced by the script. `output`: tokens of the answer."""
        asked = estimate_tokens(request)
        dollars = (asked * self.script.input + output * self.script.output) / 1_000_000
        return Usage(asked, output, dollars=billed(dollars))


def read_script(query: str, name: str) -> Script:
    """Parse a script, such as `tokens=40&first=0.05`.

    query: the part of a model's id after its `?`; "" for a script of defaults
    name: the id without `scripted:`, for errors

    Raises `ConfigurationError` for an unknown field or a wrong value.
    """
    where, fields = f"scripted:{shown(name)}", Script.__struct_fields__
    values: dict[str, Any] = {}
    for field, value in parse_qsl(query, keep_blank_values=True):
        if field not in fields:
            known = ", ".join(fields)
            raise ConfigurationError(f"{where}: there is no {shown(field)}; known: {known}{closest(field, fields)}")
        values[field] = _number(field, value, where) if field in MOST else value
    try:
        script = msgspec.convert(values, Script, strict=False)
    except msgspec.ValidationError:  # the other fields are texts
        raise ConfigurationError(f'{where}: echo is "{shown(values["echo"])}", but must be true or false') from None
    if script.fail and script.fail not in CAUSES:
        raise ConfigurationError(f"{where}: fail: must be one of {', '.join(CAUSES)}")
    return script


def _number(field: str, text: str, where: str) -> int | float | Decimal:
    """A number of a script. Raises `ConfigurationError` unless it is from 0 to its highest value."""
    kind, most = _kinds()[field], MOST[field]
    whole = " whole" if kind is int else ""
    right = f"must be a{whole} number, not below 0 and not above {most:,}"
    wrong = ConfigurationError(f'{where}: {field} is "{shown(text)}", but {right}')
    if not re.fullmatch(NUMBER, text, re.ASCII) or (kind is int and not text.isdecimal()):
        raise wrong
    number = Decimal(text)  # exact, so that no rounding hides that a number is too high
    if not 0 <= number <= most:
        raise wrong
    if -int(number.as_tuple().exponent) > MOST_PLACES:
        raise ConfigurationError(f"{where}: {field} has more than {MOST_PLACES} digits after the point")
    return number if kind is Decimal else kind(number)


def _kinds() -> dict[str, type[int] | type[float] | type[Decimal]]:
    return {field.name: field.type for field in msgspec.structs.fields(Script)}
