"""Shortens proposals so that a prompt fits its model's context window. Every cut is reported.

Only proposals are shortened, never the conversation or the instruction. The longest proposals lose their middle, down
to a common length. A window holds the prompt and the answer, so room is kept for the answer.

Tokens are counted only if necessary. Nearly every prompt fits by an estimate that errs high, and then nothing is
counted. Otherwise the model's own tokenizer counts, if there is one. Without a tokenizer, proposals are first cut by
the high estimate, as long as enough of them is left to be worth reading. After that they are cut by the likely number
of tokens. Only a prompt that is too long by this number is refused.
"""

from collections.abc import Awaitable, Callable, Collection, Container, Sequence
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from partsong.engine.shortening import shorten
from partsong.errors import ModelError
from partsong.events import Cut
from partsong.heavy import LIGHT_BYTES, are_heavy, done, is_heavy
from partsong.model import Message, Request, Text
from partsong.model_info import ModelInfo
from partsong.recipe import Fit
from partsong.wire.tokens import TOKENS_A_MESSAGE, estimate, estimate_tokens, likely_tokens

ROOM = 1024  # tokens kept for an answer without a token limit …
SHARE = 4  # … but at most the window divided by this number
ATTEMPTS = 8  # attempts by proportion to find the length of the cuts; later attempts bisect
UNUSED = 200  # the search ends when at most the limit divided by this number is left unused
WORTH_READING = 256  # tokens: a proposal is cut to fewer only if there is no other way
DRAFT = -1  # stands for the draft where proposals have their index

# Makes the request for a model that reads some texts. The arguments are the texts and, for each text, the index of its
# proposal or `DRAFT`.
Write = Callable[[tuple[str, ...], tuple[int, ...]], Request]


class Fitted(Struct, frozen=True):
    """A request that fits the window of its model.

    texts: texts of the proposals in the request, after the cuts
    indexes: for each text, the index of its proposal, or `DRAFT`
    before: tokens of the prompt before the cuts; 0 if the window is not known
    after: tokens of the prompt after the cuts; 0 if the window is not known
    cuts: the proposals that were shortened
    """

    request: Request
    texts: tuple[str, ...]
    indexes: tuple[int, ...]
    before: int = 0
    after: int = 0
    cuts: tuple[Cut, ...] = ()


async def fit(
    info: ModelInfo,
    model: str,
    write: Write,
    proposals: tuple[str, ...],
    policy: Fit,
    indexes: tuple[int, ...] | None = None,
) -> Fitted:
    """The request with all proposals, which are shortened if the prompt does not fit the model's window.

    info: the facts about the model, among them its window
    model: id of the model, for error messages
    write: makes the request
    proposals: texts of all proposals, in seat order
    policy: what is done if the prompt is too long; see `Recipe.fit`
    indexes: for each text, the index of its proposal on the table; `None` (default) if these are all

    Raises `ModelError` with the cause "window" if the prompt is too long and the policy is to fail, or if the prompt is
    too long even without proposals. A window from a list never fails the call, since the list may be wrong.
    """
    indexes = tuple(range(len(proposals))) if indexes is None else indexes
    return await _fit(info, model, write, proposals, indexes, shorten_it=_shortens(policy))


def _shortens(policy: Fit) -> bool:
    """Whether the policy shortens proposals that do not fit."""
    match policy:
        case "fail":
            return False
        case "truncate" | "window":
            return True
        case _:
            assert_never(policy)


async def fit_in_steps(
    info: ModelInfo,
    model: str,
    write: Write,
    write_draft: Write,
    proposals: tuple[str, ...],
    draft: Callable[[Fitted], Awaitable[str]],
) -> Fitted:
    """Aggregate proposals in steps until the rest fits (Self-MoA-Seq, arXiv 2502.00674); return the last request.

    write: makes the last request
    write_draft: makes the request of a step before the last one
    draft: asks the model with such a request, and returns the text of its answer

    Each step before the last reads as many proposals as fit beside the draft. Its answer is the new draft, which the
    next step reads in their place. A proposal that does not fit beside the draft is shortened. See `fit` for the other
    parameters and for the error.
    """
    texts: tuple[str, ...] = ()
    left = tuple(range(len(proposals)))
    while True:
        indexes = (*(DRAFT for _ in texts), *left)
        everything = (*texts, *(proposals[index] for index in left))
        whole = await _written(write, everything, indexes)
        if not left or await _Window(info, whole).fits(whole):
            return await _fit(info, model, write, everything, indexes)
        taken = await _taken(info, write_draft, everything, indexes)
        least = 2 - len(texts)
        if taken < least and len(left) <= least:
            return await _fit(info, model, write, everything, indexes)
        taken = max(taken, min(least, len(left)))
        number = len(texts) + taken
        step = await _fit(info, model, write_draft, everything[:number], indexes[:number])
        texts, left = (await draft(step),), left[taken:]


def learnt(before: ModelInfo, now: ModelInfo) -> bool:
    """Whether `now` has a window that `before` lacks, so that a prompt that was too long can be fitted again.

    Facts change when a provider refuses a prompt and names the window.
    """
    return now.window is not None and now.window != before.window


def room_for(info: ModelInfo, request: Request) -> int:
    """The number of tokens of the window that are kept for the answer.

    With a limit in the request it is the whole limit, because providers count it so. A limit as large as the window is
    ignored, since it would leave no room for a prompt. Without a limit it is the model's own limit or `ROOM`, and at
    most a quarter of the window.
    """
    window = info.window or 0
    asked = request.sampling.max_tokens
    if asked is not None and asked < window:
        return asked
    return min(info.max_tokens or ROOM, window // SHARE)


class _Window:
    """Counts the tokens of prompts for one model, and compares them with its window.

    limit: most tokens of a prompt, the window without the room for the answer; `None` if the window is not known
    likely: without a tokenizer, count the likely number of tokens instead of the high estimate (default: no)
    """

    def __init__(self, info: ModelInfo, request: Request, *, likely: bool = False) -> None:
        self.info, self.room, self.likely = info, room_for(info, request), likely
        self.limit = None if info.window is None else info.window - self.room

    async def fits(self, request: Request) -> bool:
        return self.limit is None or await self.tokens(request) <= self.limit

    async def tokens(self, request: Request) -> int:
        """The tokens of the request: the high estimate if the request fits by it, else the result of `count`."""
        estimated = await done(is_heavy(request), estimate_tokens, request)
        return estimated if self.limit is None or estimated <= self.limit else await self.count(request)

    async def count(self, request: Request) -> int:
        if self.info.count is None and not self.likely:
            return await done(is_heavy(request), estimate_tokens, request)
        beside = estimate_tokens(replace(request, messages=()))
        if self.info.count is None:
            return await done(are_heavy(request.messages), likely_tokens, request.messages) + beside
        return await self.info.count(request.messages) + beside

    def size(self, text: str) -> int:
        """The estimated tokens of one text. The tokenizer is not asked, since that would take too long."""
        if self.info.count is None and self.likely:
            return likely_tokens((Message("user", (Text(text),)),)) - TOKENS_A_MESSAGE
        return estimate(text)


async def _taken(info: ModelInfo, write: Write, texts: tuple[str, ...], indexes: tuple[int, ...]) -> int:
    """The number of proposals, from the first on, that fit into one prompt together with the draft (if any)."""
    drafts = sum(index == DRAFT for index in indexes)
    least, most = 0, len(texts) - drafts
    while least < most:
        middle = (least + most + 1) // 2
        request = await _written(write, texts[: drafts + middle], indexes[: drafts + middle])
        if await _Window(info, request).fits(request):
            least = middle
        else:
            most = middle - 1
    return least


async def _fit(
    info: ModelInfo,
    model: str,
    write: Write,
    texts: tuple[str, ...],
    indexes: tuple[int, ...],
    *,
    shorten_it: bool = True,
) -> Fitted:
    request = await _written(write, texts, indexes)
    if info.window is None or not texts:
        return Fitted(request, texts, indexes)
    window = _Window(info, request)
    limit = info.window - window.room
    tokens = await window.tokens(request)
    if tokens <= limit:
        return Fitted(request, texts, indexes, tokens, tokens)
    if info.count is None:
        if shorten_it and (fitted := await _cut(window, write, texts, indexes, tokens, WORTH_READING)):
            return fitted
        window = _Window(info, request, likely=True)
        tokens = await window.count(request)
        if tokens <= limit:
            return Fitted(request, texts, indexes, tokens, tokens)
    if shorten_it and (fitted := await _cut(window, write, texts, indexes, tokens, 0)):
        return fitted
    if info.listed:
        return Fitted(request, texts, indexes, tokens, tokens)
    counted = "" if info.count else "about "
    even = ", even with nothing of the proposals left," if shorten_it else ""
    raise ModelError(
        f"the prompt has {counted}{tokens:,} tokens and{even} does not fit: {model} reads {info.window:,}, "
        f"of which {window.room:,} are kept for the answer",
        "window",
    )


async def _cut(
    window: _Window, write: Write, texts: tuple[str, ...], indexes: tuple[int, ...], tokens: int, floor: int
) -> Fitted | None:
    """The request with texts shortened to fit; `None` if the longest text would be cut below `floor` tokens.

    tokens: tokens of the prompt before the cuts

    The draft is shortened only if the proposals alone would be cut below `WORTH_READING`.
    """
    others = [place for place, index in enumerate(indexes) if index != DRAFT]
    if len(others) < len(texts) and (
        fitted := await _shortened(window, write, texts, indexes, tokens, others, WORTH_READING)
    ):
        return fitted
    return await _shortened(window, write, texts, indexes, tokens, range(len(texts)), floor)


async def _shortened(
    window: _Window,
    write: Write,
    texts: tuple[str, ...],
    indexes: tuple[int, ...],
    before: int,
    places: Sequence[int],
    floor: int,
) -> Fitted | None:
    """The request with the longest texts cut to a common length; `None` if that length would be below `floor` tokens.

    before: tokens of the prompt before the cuts
    places: indexes of the texts that may be cut

    The greatest length that fits is found by attempts, because the tokens of a shortened prompt can only be predicted
    roughly.
    """
    limit = window.limit or 0
    # Lengths of texts are estimated tokens. `scale` is how many tokens the tokenizer counts for an estimated token.
    long = _are_long(texts)
    scale = 1.0
    if window.info.count is not None:
        scale = before / max(1, await done(long, lambda: estimate_tokens(write(texts, indexes))))
    sizes = await done(long, lambda: {place: window.size(texts[place]) for place in places})
    longest = max(sizes.values(), default=0)
    fits, too_long = min(floor, longest) - 1, longest
    level = common_length(sizes.values(), sum(sizes.values()) - (before - limit) / scale)
    best: Fitted | None = None
    attempt = 0
    while too_long - fits > 1 and (best is None or attempt < ATTEMPTS):
        attempt += 1
        level = max(fits + 1, min(too_long - 1, level))
        now, request = await done(long, _attempted, window, write, texts, indexes, sizes, level)
        cut = [place for place in sizes if now[place] != texts[place]]
        after = await window.count(request)
        if after <= limit:
            cuts = tuple(_told(indexes[place], sizes[place] * scale, window.size(now[place]) * scale) for place in cut)
            best, fits = Fitted(request, now, indexes, before, after, cuts), level
            if limit - after <= limit // UNUSED:
                break
        else:
            too_long = level
        if attempt < ATTEMPTS:
            level += int((limit - after) / scale / max(1, len(cut)))
        else:
            level = (fits + too_long) // 2
    return best


def _attempted(
    window: _Window, write: Write, texts: tuple[str, ...], indexes: tuple[int, ...], places: Container[int], level: int
) -> tuple[tuple[str, ...], Request]:
    """The texts with those at `places` cut to at most `level` tokens, and the request with them."""
    now = tuple(shorten(text, level, window.size) if place in places else text for place, text in enumerate(texts))
    return now, write(now, indexes)


def _are_long(texts: tuple[str, ...]) -> bool:
    return sum(map(len, texts)) > LIGHT_BYTES


async def _written(write: Write, texts: tuple[str, ...], indexes: tuple[int, ...]) -> Request:
    """The request with these texts."""
    return await done(_are_long(texts), write, texts, indexes)


def _told(index: int, before: float, after: float) -> Cut:
    """The event's record of a cut, in whole tokens. `after` is always less than `before`, even after rounding."""
    whole = max(1, round(before))
    return Cut(index, whole, min(round(after), whole - 1))


def common_length(sizes: Collection[int], total: float) -> int:
    """The common length to which the longest of `sizes` must be cut so that the sum of all sizes is `total`."""
    left = total
    ordered = sorted(sizes)
    for number, size in enumerate(ordered):
        share = left / (len(ordered) - number)
        if size > share:
            return max(0, int(share))
        left -= size
    return ordered[-1] if ordered else 0
