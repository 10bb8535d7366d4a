"""Quirks: fields and forms of an API that a model does not accept, and the changes to requests that avoid them.

A quirk is known from the name of a model or host, or learnt from a refusal. If a quirk's pattern matches a refusal, the
request is changed and sent again, once for each quirk. If the same complaint comes back, the change is undone. The
quirks in force when an answer comes are remembered for this model at this endpoint.

Quirks never remove tools, a response format or stop sequences, because the caller depends on them. Such a refusal is
raised. If a quirk hides something from the model, the answer has a caveat, which the run reports as a loss.

The tables `CHAT` and `MESSAGES` hold the quirks of each API, one a row.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from partsong.model import Answer, Caveat, Reasoning, ToolCall
from partsong.providers import bodies
from partsong.providers.bodies import Body, Change, drop
from partsong.providers.ranges import Range, read_effort, read_range, read_room
from partsong.providers.rejection import Rejection
from partsong.wire.history import DETAILS, HistoryRules

# Statuses of refusals that may complain about the form of a request.
TEACHES = frozenset({400, 404, 405, 413, 415, 422, 500, 501})
COMPLAINT = (
    r"(unsupported|n't (yet )?support|not (yet )?(be )?(support|permit|allow|accept|available|implement|enabled)"
    r"|unknown|unrecogni[sz]ed|unexpected|forbidden|extra inputs|only be set|only the default|deprecated)"
)
Write = Callable[[HistoryRules], Body]


class Quirk(Struct, frozen=True):
    """Something that a model does not accept, and how requests are changed because of it.

    name: name of the quirk, unique in its table
    says: matches a refusal, in lower case, that complains of the quirk
    change: changes a request's body in place, at the top level alone
    known: matches the names of models that have the quirk; `None` by default
    hosts: matches "provider host" of endpoints whose models have the quirk; `None` by default
    remembered: whether the quirk belongs to the model; False if it concerns one conversation alone. True by default
    reads: takes a refusal and the refused body, and returns a change that replaces `change`, or `None` if they do not
        say enough; no function by default
    rules: fields of `HistoryRules` that the quirk sets; none by default
    caveat: sentence about what the model was not shown; "" (default) for nothing
    """

    name: str
    says: re.Pattern[str]
    change: Change
    known: re.Pattern[str] | None = None
    hosts: re.Pattern[str] | None = None
    remembered: bool = True
    reads: Callable[[str, Body], Change | None] | None = None
    rules: Mapping[str, Any] = {}
    caveat: str = ""


def refuses(name: str, *otherwise: str) -> re.Pattern[str]:
    """Return a pattern that matches a complaint about a field, or any of the patterns `otherwise`.

    name: pattern of the field's name
    """
    pattern = rf"{COMPLAINT}.{{0,120}}\b{name}\b|\b{name}\b.{{0,120}}{COMPLAINT}"
    return re.compile("|".join((*otherwise, pattern)), re.DOTALL)


def _nothing(body: Body) -> None:
    """Change nothing; for quirks that have `rules`, that make their change from a refusal, or that concern answers."""


def _range(field: str, pattern: str, words: str, body: Body, *, whole: bool = False) -> Change | None:
    """Return a change that moves a field into the range that a refusal gives; `None` if it gives none.

    pattern: pattern of the field's name in refusals
    words: the refusal, in lower case
    whole: whether the field holds whole numbers; False by default
    """
    bounds = read_range(words, pattern, whole=whole)
    return None if bounds is None else bodies.keep_in(bounds, field, whole=whole)


def _limit(words: str, body: Body) -> Change | None:
    """Return a change that lowers `max_tokens` to the maximum that a refusal gives; `None` if it gives none.

    A value below the maximum is never raised, because the caller has set it.
    """
    bounds = read_range(words, LIMIT, whole=True)
    if bounds is None or bounds.high < 1 or read_room(words) is not None:
        return None
    return bodies.keep_in(Range(high=bounds.high), *LIMITS, whole=True)


def _room(words: str, body: Body) -> Change | None:
    """Return a change that lowers `max_tokens` to what the window leaves for the answer; `None` if unknown."""
    room = read_room(words)
    return None if room is None else bodies.keep_in(Range(high=room), *LIMITS, whole=True)


def _effort(words: str, body: Body) -> Change | None:
    offered = read_effort(words, bodies.effort_of(body))
    return bodies.offer(offered) if offered else None


def _ranged(field: str, pattern: str | None = None, *, whole: bool = False) -> Quirk:
    """Return the quirk that a field accepts a narrower range than the API allows.

    pattern: pattern of the field's name in refusals; by default the name itself
    whole: whether the field holds whole numbers; False by default
    """
    pattern = pattern or field
    return Quirk(
        f"{field} in a narrower range",
        re.compile(rf"\b{pattern}\b"),
        _nothing,
        reads=partial(_range, field, pattern, whole=whole),
    )


LIMITS = ("max_tokens", "max_completion_tokens")
LIMIT = r"(?:max_?(?:completion_|output_|new_)?tokens|max(?:imum)? (?:output |new |completion )?tokens|maxoutputtokens)"
NEVER = re.compile(r"(?!)")
REASONING = re.compile(r"^(openai/)?(o[1-9](-|$)|gpt-5(-(mini|nano|pro|codex))?(-\d|$))")
FORCED_WHILE_THINKING = re.compile(r"thinking.{0,120}tool_?\s?choice|tool_?\s?choice.{0,160}thinking", re.DOTALL)
NO_PICTURES = (
    r"image.?(input|url|content|s)?\b.{0,80}(not (be )?(support|accept|allow|permit|enabled)|n't support|unsupported"
    r"|only supported by|unknown variant|not available)|(not|n't) (currently )?(support|accept|process).{0,40}"
    r"(image|picture|vision|multi.?modal)|supports? (text only|only text)|no endpoints found that support image"
    r"|unknown variant\W{1,4}image|at most 0 image|not a multi.?modal|is not (a )?(vision|multi.?modal)"
    r"|(content|\.content)\W{0,4} (must|should) be a (valid )?string|unsupported content\[\]\.type"
)
NO_FILES = (
    r"\b(file|pdf|document)s?\b.{0,80}(not (be )?(support|accept|allow|permit|enabled)|n't support|unsupported)"
    r"|(not|n't) (currently )?(support|accept|process).{0,40}\b(file|pdf|document)"
    r"|(unknown variant|invalid value|unknown (part )?type|\btag|unsupported (part|content|block)( type)?)"
    r"\W{1,4}(file|document)\b|(content|\.content)\W{0,4} (must|should) be a (valid )?string"
)
THINKS_FIRST = Quirk("content begins with thoughts", NEVER, _nothing)
DETAILS_BACK = Quirk(
    "reasoning_details go back",
    re.compile(r"reasoning.?details to be preserved|reasoning_details.{0,60}(missing|required|must)"),
    _nothing,
    hosts=re.compile(r"openrouter"),
    rules={"details": True},
)
SIGNATURES_BACK = Quirk(
    "thought signatures go back",
    re.compile("thought_?signature"),
    _nothing,
    known=re.compile(r"gemini"),
    rules={"signatures": True},
)
NO_STREAM = Quirk("no stream", refuses("stream(ing)?", "verified to stream"), drop("stream", "stream_options"))
# Rows of both tables. They come first because they keep the field, with a number or a word that the refusal offers.
SHARED: tuple[Quirk, ...] = (
    Quirk(
        "max_tokens within the window",
        re.compile(r"\d > \d|requested (about )?\d+ tokens"),
        _nothing,
        remembered=False,
        reads=_room,
    ),
    Quirk("max_tokens within the model's limit", re.compile(rf"\b{LIMIT}\b"), _nothing, reads=_limit),
    _ranged("temperature"),
    _ranged("top_p"),
    Quirk("other efforts", re.compile(r"effort|thinking.?level|\blevel\b"), _nothing, reads=_effort),
    Quirk(
        "no pictures",
        re.compile(NO_PICTURES, re.DOTALL),
        bodies.name_pictures,
        caveat=f'the model reads no pictures: it was shown "{bodies.PICTURE}" in place of each',
    ),
    Quirk(
        "no documents",
        re.compile(NO_FILES, re.DOTALL),
        _nothing,
        rules={"documents": False},
        caveat="the model takes no PDFs: it read the text of each, without pictures",
    ),
)

# A refusal is matched against the rows in this order, and the first row that changes the body is tried. Some servers
# write field names in camel case in their refusals.
CHAT: tuple[Quirk, ...] = (
    *SHARED,
    _ranged("top_logprobs", whole=True),
    Quirk(
        "max_completion_tokens in place of max_tokens",
        refuses("max_tokens", "max_completion_tokens"),
        bodies.rename_limit,
        re.compile(r"^(openai/)?(o[1-9](-|$)|gpt-5)"),
    ),
    Quirk("no top_p", refuses("top_p", r"temperature\W+and\W+top_p\W.{0,40}(both|together)"), drop("top_p"), REASONING),
    Quirk("no temperature", refuses("temperature"), drop("temperature"), REASONING),
    Quirk("no seed", refuses("seed"), drop("seed")),
    Quirk("no logprobs", refuses("(top_)?logprobs"), drop("logprobs", "top_logprobs")),
    Quirk("no top_k", refuses("top_k"), drop("top_k")),
    Quirk("no forced tool_choice while thinking", FORCED_WHILE_THINKING, bodies.do_not_think),
    Quirk("no forced tool_choice while thinking (Alibaba)", FORCED_WHILE_THINKING, bodies.do_not_think_either),
    Quirk(
        "no forced tool_choice",
        re.compile(
            rf"{FORCED_WHILE_THINKING.pattern}|tool_choice.{{0,60}}{COMPLAINT}.{{0,60}}(required|object)"
            rf"|{COMPLAINT}.{{0,60}}thinking",
            re.DOTALL,
        ),
        bodies.let_choose,
    ),
    Quirk(
        "no reasoning_effort",
        refuses("reasoning_?effort", r"effort.{0,80}(invalid|must be|should be|expected)|invalid.{0,40}effort"),
        drop("reasoning_effort"),
    ),
    Quirk("no verbosity", refuses("verbosity"), drop("verbosity")),
    Quirk("no frequency_penalty", refuses("frequency_?penalty"), drop("frequency_penalty")),
    Quirk("no presence_penalty", refuses("presence_?penalty"), drop("presence_penalty")),
    Quirk("no parallel_tool_calls", refuses("parallel_tool_calls"), drop("parallel_tool_calls")),
    Quirk("no stream_options", re.compile("stream_options"), drop("stream_options")),
    NO_STREAM,
    Quirk("no names", refuses("name", r"messages\W{1,3}\d+.{0,40}\bname\b"), bodies.spell_names),
    Quirk(
        "a schema in place of json_object",
        re.compile(r"response_format.{0,80}json_schema", re.DOTALL),
        bodies.spell_out_object,
    ),
    Quirk(
        "the system speaks first",
        re.compile(
            r"system (message|prompt|role|instruction)s?\W.{0,60}\b(begin|first|start|index 0|position 0|top)"
            r"|first message.{0,40}\bsystem|only the first.{0,40}system|multiple system messages|one system message",
            re.DOTALL,
        ),
        bodies.system_first,
    ),
    Quirk("roles alternate", re.compile(r"alternat(e|ing)\b|unexpected role"), bodies.merge_neighbours),
    Quirk(
        "no system role",
        re.compile(
            r"system.{0,40}not.{0,20}(support|allow|enabl)|not support.{0,40}system|got.{0,5}system"
            r"|developer instruction is not enabled|unexpected role.{0,5}system",
            re.DOTALL,
        ),
        bodies.fold_system,
    ),
    # Older chat templates have no system role, and complain about the order of roles instead.
    Quirk("roles alternate, and no system role", re.compile("must alternate"), bodies.fold_system_and_merge),
    Quirk("no strict schema", re.compile(r"\bstrict\b|additionalproperties|invalid schema"), bodies.loosen_schema),
    # How earlier turns are written: see `HistoryRules`.
    Quirk(
        "reasoning goes back",
        re.compile(r"reasoning_content.{0,80}(passed back|missing|required|must)|missing.{0,20}reasoning_content"),
        _nothing,
        known=re.compile(r"deepseek|kimi"),
        hosts=re.compile(r"deepseek|moonshot"),
        rules={"reasoning": True},
    ),
    Quirk(
        "no reasoning of earlier turns",
        refuses("reasoning_content", r"property 'reasoning_content'"),
        bodies.drop_reasoning,
    ),
    Quirk(
        "ids of nine letters",
        re.compile(r"tool.?call.?id.{0,120}length of 9|a-z, a-z, 0-9, with a length of 9", re.DOTALL),
        _nothing,
        known=re.compile(r"mistral|mixtral|ministral|magistral|codestral|devstral|voxtral|pixtral"),
        hosts=re.compile(r"mistral"),
        rules={"ids": "nine"},
    ),
    Quirk(
        "tools of the history are declared",
        re.compile(r"expects? the `?tools=?|must (define|declare|include) .{0,20}tools|toolconfig field must be"),
        _nothing,
        rules={"declares": True},
    ),
    DETAILS_BACK,
    SIGNATURES_BACK,
    Quirk("calls are signed", re.compile("thought_?signature"), bodies.sign_calls),
)

MESSAGES: tuple[Quirk, ...] = (
    *SHARED,
    Quirk(
        "no top_p beside temperature",
        re.compile(r"temperature\W+and\W+top_p\W.{0,40}(both|together)"),
        bodies.one_of_two,
    ),
    Quirk("no temperature", refuses("temperature"), drop("temperature")),
    Quirk("no top_p", refuses("top_p"), drop("top_p")),
    Quirk("no forced tool_choice while thinking", FORCED_WHILE_THINKING, bodies.drop_thinking),
    Quirk(
        "always thinks",
        re.compile(r"thinking.{0,40}\bdisabled\b.{0,40}\bnot\b", re.DOTALL),
        bodies.think_anyway,
    ),
    Quirk("no budget for thinking, or no other way", re.compile("adaptive"), bodies.adapt),
    Quirk("no effort", refuses("effort", r"output_config: extra inputs"), bodies.drop_effort),
    NO_STREAM,
    Quirk("no thoughts of another", re.compile(r"\bsignature\b"), bodies.drop_thoughts, remembered=False),
)


class Quirks:
    """The quirks of one model at one endpoint.

    table: the quirks that the model may have, in the order in which they are tried
    known: the quirks that the model has, as far as known
    """

    def __init__(self, table: tuple[Quirk, ...], name: str, where: str = "") -> None:
        """Start with the quirks that the model's name and host show.

        table: the API's table, `CHAT` or `MESSAGES`
        name: the model's name at the provider
        where: "provider host"; "" (default) if unknown
        """
        self.table = table
        self.known = tuple(
            quirk
            for quirk in table
            if (quirk.known is not None and quirk.known.search(name))
            or (quirk.hosts is not None and quirk.hosts.search(where))
        )

    def remember(self, *quirks: Quirk) -> None:
        """Add quirks to the known ones, unless `remembered` is False. A known quirk of the same name is replaced."""
        new = [quirk for quirk in quirks if quirk.remembered and quirk not in self.known]
        names = {quirk.name for quirk in new}
        if new:
            self.known = (*(quirk for quirk in self.known if quirk.name not in names), *new)

    def hear(self, answer: Answer) -> None:
        """Learn from an answer: endpoints that send reasoning details or signatures want them back in later turns."""
        for part in answer.parts:
            if type(part) is Reasoning and part.signature.startswith(DETAILS):
                self.remember(DETAILS_BACK)
            elif type(part) is ToolCall and part.signature:
                self.remember(SIGNATURES_BACK)


class Lesson:
    """The quirks that one call applies and learns.

    in_force: the quirks whose changes are applied; at first those that are known
    """

    def __init__(self, quirks: Quirks, write: Write) -> None:
        """Start a call. `write`: returns a new body of the request for the given `HistoryRules`."""
        self.in_force = quirks.known
        self._write = write
        self._table = quirks.table
        self._tried: set[str] = set()
        self._last: Quirk | None = None
        self._complaint = ""  # the words of the refusal because of which the last quirk was tried

    def body(self) -> Body:
        """Return the body with the changes of all quirks in force."""
        return self._changed(self.in_force)

    def with_caveats(self, answer: Answer) -> Answer:
        """Return the answer with a caveat for each quirk that has hidden something from the model."""
        kept: list[Caveat] = []
        for index, quirk in enumerate(self.in_force):
            if quirk.caveat and self._changed(self.in_force[:index]) != self._changed(self.in_force[: index + 1]):
                kept.append(Caveat("shortened", quirk.caveat))
        before = () if answer.caveats is UNSET else answer.caveats
        return replace(answer, caveats=(*before, *kept)) if kept else answer

    def _changed(self, quirks: tuple[Quirk, ...]) -> Body:
        rules = HistoryRules()
        for quirk in quirks:
            if quirk.rules:
                rules = replace(rules, **quirk.rules)
        body = self._write(rules)
        for quirk in quirks:
            quirk.change(body)
        return body

    def learn(self, rejection: Rejection) -> bool:
        """Put the next quirk that matches a refusal in force, and return whether there was one.

        If the refusal repeats the complaint that led to the last quirk, that quirk is no longer in force.
        """
        if rejection.status not in TEACHES:
            return False
        if self._last is not None:
            found = self._last.says.search(rejection.text)
            if found and found[0] == self._complaint:
                self.in_force = self.in_force[:-1]
        before = self.body()
        for row in self._table:
            if row.name in self._tried or not (found := row.says.search(rejection.text)):
                continue
            quirk = _made(row, rejection.text, before)
            if quirk is None or self._changed((*self.in_force, quirk)) == before:
                continue
            self._tried.add(row.name)
            self._last, self._complaint = quirk, found[0]
            self.in_force += (quirk,)
            return True
        return False


def _made(row: Quirk, words: str, body: Body) -> Quirk | None:
    """Return the quirk of a row, with the change that `row.reads` makes from the refusal if there is such a function.

    Returns `None` if the refusal does not say enough for a change.

    words: the refusal, in lower case
    body: the refused body
    """
    if row.reads is None:
        return row
    change = row.reads(words, body)
    return None if change is None else replace(row, change=change, reads=None)
