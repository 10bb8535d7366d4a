"""What a model does not accept though its API has it: known from its name, or learnt from the refusal that says so.

A quirk whose words stand in a refusal is tried. If the same complaint comes back it was no help, and is taken back;
what is in force when an answer comes is remembered for this model. Nothing is a quirk that would change what the answer
is: tools, a response format and stop sequences stay, and the refusal is passed on.
"""

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from partsong.providers.rejection import Rejection

Body = dict[str, Any]

# A refusal with another status has nothing to do with the form of the request.
TEACHES = frozenset({400, 404, 405, 415, 422, 500, 501})
COMPLAINT = (
    r"(unsupported|n't (yet )?support|not (yet )?(be )?(support|permit|allow|accept|available|implement)|unknown"
    r"|unrecogni[sz]ed|unexpected|forbidden|extra inputs|only be set|only the default|deprecated)"
)


class Quirk(Struct, frozen=True):
    """Something that a model does not accept.

    `says` finds it in the (lower-case) words of a refusal, `known` in the names of models that are known for it.
    `change` makes a request's body do without: it sets or drops what is at the top, and leaves alone what lies deeper.
    What lies in the conversation and not in the model is not `remembered`.
    """

    name: str
    says: re.Pattern[str]
    change: Callable[[Body], None]
    known: re.Pattern[str] | None = None
    remembered: bool = True


def refuses(name: str, *otherwise: str) -> re.Pattern[str]:
    """Finds a complaint about the field `name`, or one of the other patterns."""
    pattern = rf"{COMPLAINT}.{{0,120}}\b{name}\b|\b{name}\b.{{0,120}}{COMPLAINT}"
    return re.compile("|".join((*otherwise, pattern)), re.DOTALL)


def drop(*names: str) -> Callable[[Body], None]:
    """A change that leaves these fields out."""

    def change(body: Body) -> None:
        for name in names:
            body.pop(name, None)

    return change


def _nothing(body: Body) -> None:
    """What lies in how the answer is read changes no request."""


NEVER = re.compile(r"(?!)")
THINKS_FIRST = Quirk("content begins with thoughts", NEVER, _nothing)
NO_STREAM = Quirk("no stream", refuses("stream(ing)?", "verified to stream"), drop("stream", "stream_options"))


class Quirks:
    """The quirks of one model: `table` holds those that it may have, in the order to try them, `known` those it has."""

    def __init__(self, table: tuple[Quirk, ...], name: str) -> None:
        self.table = table
        self.known = tuple(quirk for quirk in table if quirk.known is not None and quirk.known.search(name))

    def remember(self, *quirks: Quirk) -> None:
        """Take these for known from now on."""
        self.known += tuple(quirk for quirk in quirks if quirk.remembered and quirk not in self.known)


class Lesson:
    """What one call learns. `in_force` are the quirks that it goes by; it begins with those that are known."""

    def __init__(self, quirks: Quirks) -> None:
        self.in_force = quirks.known
        self._table = quirks.table
        self._tried: list[Quirk] = []
        self._complaint = ""  # the words to which the last one was the answer

    def change(self, body: Body) -> Body:
        """The body as it is sent."""
        changed = dict(body)
        for quirk in self.in_force:
            quirk.change(changed)
        return changed

    def learn(self, rejection: Rejection, body: Body) -> bool:
        """Whether there is something to try after this refusal of `body`; it is in force then."""
        if rejection.status not in TEACHES:
            return False
        if self._tried and (found := self._tried[-1].says.search(rejection.text)) and found[0] == self._complaint:
            self.in_force = self.in_force[:-1]
        before = self.change(body)
        for quirk in self._table:
            if quirk not in self._tried and (found := quirk.says.search(rejection.text)):
                after = dict(before)
                quirk.change(after)
                if after != before:
                    self._tried.append(quirk)
                    self._complaint = found[0]
                    self.in_force += (quirk,)
                    return True
        return False
