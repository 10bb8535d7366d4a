"""A prompt made to fit the window of its model before the model is asked. Every cut is told.

Only proposals are shortened, never the conversation or the instruction: in the middle, the longest first, down to a
common length. A window holds the prompt and the answer, so room is kept for the answer.

Tokens are counted only if they must be. Nearly every prompt is far shorter than the window by an estimate that errs
high, and then nothing is counted. Otherwise the model's own tokenizer counts, if it has one. Without a tokenizer,
proposals are cut by the high estimate as long as enough of them is left to be worth reading. Then they are cut by the
likely number of tokens, and only a prompt that is too long by that number is refused.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from partsong.engine.shortening import shorten
from partsong.errors import ModelError
from partsong.events import Cut
from partsong.model import Message, Request, Text
from partsong.model_info import ModelInfo
from partsong.recipe import Fit
from partsong.wire.tokens import TOKENS_A_MESSAGE, estimate, estimate_tokens, likely_tokens

ROOM = 1024  # tokens kept for an answer without a limit of its own …
SHARE = 4  # … but at most the window divided by this
ATTEMPTS = 8  # at finding the length of the cuts; after these, little of the window is left unused
UNUSED = 200  # the window divided by this may be left unused
WORTH_READING = 256  # tokens: a proposal is cut to less only if it must be
DRAFT = -1  # the draft's index among proposals

# The request for a model that reads these texts; with each its index among the proposals, or `DRAFT`.
Write = Callable[[tuple[str, ...], tuple[int, ...]], Request]


class Fitted(Struct, frozen=True):
    """A request that fits.

    texts: the proposals as they stand in the request
    indexes: of each text, the index of its proposal, or `DRAFT`
    before: tokens of the prompt without cuts; 0 if no window is known
    after: tokens of the prompt as it is
    cuts: the proposals that were shortened
    """

    request: Request
    texts: tuple[str, ...]
    indexes: tuple[int, ...]
    before: int = 0
    after: int = 0
    cuts: tuple[Cut, ...] = ()


async def fit(info: ModelInfo, model: str, write: Write, proposals: tuple[str, ...], policy: Fit) -> Fitted:
    """The request with all the proposals, shortened as far as `model` needs it.

    Raises `ModelError` with the cause "window" if the prompt is too long and the policy is to fail, or if the prompt
    would be too long without any proposals. A window that is merely listed is no reason to fail, since the list may be
    wrong and the provider knows.
    """
    return await _fit(info, model, write, proposals, tuple(range(len(proposals))), shorten_it=_shortens(policy))


def _shortens(policy: Fit) -> bool:
    """Whether proposals are shortened where they do not fit."""
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
    """The last request of an aggregation over a sliding window (Self-MoA-Seq, arXiv 2502.00674).

    As long as the proposals do not fit at once, as many as fit are given to `draft`. It asks the model and returns the
    text, which the next step reads in their place. A proposal that does not fit beside the draft is shortened.
    """
    texts: tuple[str, ...] = ()
    left = tuple(range(len(proposals)))
    while True:
        indexes = (*(DRAFT for _ in texts), *left)
        everything = (*texts, *(proposals[index] for index in left))
        whole = write(everything, indexes)
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
    """Whether a model's window has become known since, so that a request that was too long may be fitted anew."""
    return now.window is not None and now.window != before.window


def room_for(info: ModelInfo, request: Request) -> int:
    """The tokens of a window that are kept for the answer.

    Providers count the whole limit of new tokens. A limit as large as the window would leave no prompt, and is ignored.
    Without a limit the answer gets `ROOM`, or the model's own limit, up to a share of the window.
    """
    window = info.window or 0
    asked = request.sampling.max_tokens
    if asked is not None and asked < window:
        return asked
    return min(info.max_tokens or ROOM, window // SHARE)


class _Window:
    """A model's window, and the tokens of prompts for it. With `likely`, estimates are likely instead of high."""

    def __init__(self, info: ModelInfo, request: Request, *, likely: bool = False) -> None:
        self.info, self.room, self.likely = info, room_for(info, request), likely
        self.limit = None if info.window is None else info.window - self.room

    async def fits(self, request: Request) -> bool:
        return self.limit is None or await self.tokens(request) <= self.limit

    async def tokens(self, request: Request) -> int:
        """The request's tokens: the estimate if the request fits by it, else as they are counted."""
        estimated = estimate_tokens(request)
        return estimated if self.limit is None or estimated <= self.limit else await self.count(request)

    async def count(self, request: Request) -> int:
        if self.info.count is None and not self.likely:
            return estimate_tokens(request)
        beside = estimate_tokens(replace(request, messages=()))
        if self.info.count is None:
            return likely_tokens(request.messages) + beside
        return await self.info.count(request.messages) + beside

    def size(self, text: str) -> int:
        """The tokens of one text, without asking a tokenizer."""
        if self.info.count is None and self.likely:
            return likely_tokens((Message("user", (Text(text),)),)) - TOKENS_A_MESSAGE
        return estimate(text)


async def _taken(info: ModelInfo, write: Write, texts: tuple[str, ...], indexes: tuple[int, ...]) -> int:
    """How many proposals fit beside the draft, if there is one."""
    drafts = sum(index == DRAFT for index in indexes)
    least, most = 0, len(texts) - drafts
    while least < most:
        middle = (least + most + 1) // 2
        request = write(texts[: drafts + middle], indexes[: drafts + middle])
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
    request = write(texts, indexes)
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
    """The request with the texts shortened as needed; `None` if the longest would be shorter than `floor`.

    A draft is shortened only if too little would be left of the other texts.
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
    """The request with the longest of the texts at `places` cut to a common length; `None` if that is below `floor`.

    `before` is the number of tokens of the whole prompt. The length is found by trying, since the tokens of a shortened
    prompt are nearly in proportion to it.
    """
    limit = window.limit or 0
    # How many tokens a tokenizer counts for one by the estimate, in which lengths are measured.
    scale = 1.0 if window.info.count is None else before / max(1, estimate_tokens(write(texts, indexes)))
    sizes = {place: window.size(texts[place]) for place in places}
    longest = max(sizes.values(), default=0)
    fits, too_long = min(floor, longest) - 1, longest
    level = _level(sizes.values(), sum(sizes.values()) - (before - limit) / scale)
    best: Fitted | None = None
    attempt = 0
    while too_long - fits > 1 and (best is None or attempt < ATTEMPTS):
        attempt += 1
        level = max(fits + 1, min(too_long - 1, level))
        now = tuple(shorten(text, level, window.size) if place in sizes else text for place, text in enumerate(texts))
        cut = [place for place in sizes if now[place] != texts[place]]
        request = write(now, indexes)
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


def _told(index: int, before: float, after: float) -> Cut:
    """The cut in whole tokens. A text that was cut has fewer, however little was cut."""
    whole = max(1, round(before))
    return Cut(index, whole, min(round(after), whole - 1))


def _level(sizes: Collection[int], total: float) -> int:
    """The length to which the longest must be cut so that all together have the length `total`."""
    left = total
    ordered = sorted(sizes)
    for number, size in enumerate(ordered):
        share = left / (len(ordered) - number)
        if size > share:
            return max(0, int(share))
        left -= size
    return ordered[-1] if ordered else 0
