"""A prompt made to fit the window of the model that is to read it, before it is asked; every cut is told.

Only proposals are ever shortened, never the conversation nor the instruction: in the middle, the longest first, down to
a common length. A window holds the prompt and the answer, so room is kept for that. Nearly every prompt is far shorter
than the window by an estimate that errs high, and then nothing is counted at all; only else does a model that has its
own tokenizer count. Where none has one, proposals are cut by that estimate as long as it leaves enough of them to be
worth reading; then by the likely number, and only what is too long by that is refused.
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

ROOM = 1024  # tokens kept for an answer without a limit of its own, or …
SHARE = 4  # … one part in so many of a window, where that is less
ATTEMPTS = 8  # counts until the cuts are good enough; what is then left of the window is small
UNUSED = 200  # one part in so many of a window may be left unused
WORTH_READING = 256  # tokens: what a proposal is not cut below without need
DRAFT = -1  # the draft's position among proposals

# The request for a model that reads these texts; with each its position among the proposals, or `DRAFT`.
Write = Callable[[tuple[str, ...], tuple[int, ...]], Request]


class Fitted(Struct, frozen=True):
    """A request that fits. `texts` are the proposals as they stand in it, `positions` which ones they are.

    `before` and `after` are the prompt's tokens, 0 where no window is known; with nothing cut they are the same.
    """

    request: Request
    texts: tuple[str, ...]
    positions: tuple[int, ...]
    before: int = 0
    after: int = 0
    cuts: tuple[Cut, ...] = ()


async def fit(info: ModelInfo, model: str, write: Write, proposals: tuple[str, ...], policy: Fit) -> Fitted:
    """The request with all the proposals, shortened as far as `model` needs it.

    Raises `ModelError` with the cause "window" where the policy is to fail, or where proposals of nothing would not
    fit. A window that is merely listed is never a reason to fail: the list may be wrong, and the provider knows.
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

    As long as the proposals do not fit at once, as many as do are given to `draft`, which asks the model and returns
    its text; the next step reads that in their place. A proposal that does not fit beside the draft is shortened.
    """
    texts: tuple[str, ...] = ()
    left = tuple(range(len(proposals)))
    while True:
        positions = (*(DRAFT for _ in texts), *left)
        everything = (*texts, *(proposals[position] for position in left))
        whole = write(everything, positions)
        if not left or await _Window(info, whole).fits(whole):
            return await _fit(info, model, write, everything, positions)
        taken = await _taken(info, write_draft, everything, positions)
        least = 2 - len(texts)
        if taken < least and len(left) <= least:
            return await _fit(info, model, write, everything, positions)
        taken = max(taken, min(least, len(left)))
        number = len(texts) + taken
        step = await _fit(info, model, write_draft, everything[:number], positions[:number])
        texts, left = (await draft(step),), left[taken:]


def learnt(before: ModelInfo, now: ModelInfo) -> bool:
    """Whether a model's window is known better than before, so that a request that was too long may be fitted anew."""
    return now.window is not None and now.window != before.window


def room_for(info: ModelInfo, request: Request) -> int:
    """The tokens of a window that are kept for the answer.

    A limit of new tokens counts in full with providers; one that is as large as the window would leave no prompt at
    all, and is none. Without one the answer gets `ROOM`, or what the model sets itself, up to a share of the window.
    """
    window = info.window or 0
    asked = request.sampling.max_tokens
    if asked is not None and asked < window:
        return asked
    return min(info.max_tokens or ROOM, window // SHARE)


class _Window:
    """What a prompt may have at most, and what it has. `likely`: by the likely number of tokens, not by a high one."""

    def __init__(self, info: ModelInfo, request: Request, *, likely: bool = False) -> None:
        self.info, self.room, self.likely = info, room_for(info, request), likely
        self.limit = None if info.window is None else info.window - self.room

    async def fits(self, request: Request) -> bool:
        return self.limit is None or await self.tokens(request) <= self.limit

    async def tokens(self, request: Request) -> int:
        """The request's tokens, by the estimate where that is enough to know that it fits."""
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


async def _taken(info: ModelInfo, write: Write, texts: tuple[str, ...], positions: tuple[int, ...]) -> int:
    """How many proposals fit beside the draft, if there is one."""
    drafts = sum(position == DRAFT for position in positions)
    least, most = 0, len(texts) - drafts
    while least < most:
        middle = (least + most + 1) // 2
        request = write(texts[: drafts + middle], positions[: drafts + middle])
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
    positions: tuple[int, ...],
    *,
    shorten_it: bool = True,
) -> Fitted:
    request = write(texts, positions)
    if info.window is None or not texts:
        return Fitted(request, texts, positions)
    window = _Window(info, request)
    limit = info.window - window.room
    tokens = await window.tokens(request)
    if tokens <= limit:
        return Fitted(request, texts, positions, tokens, tokens)
    if info.count is None:
        if shorten_it and (fitted := await _cut(window, write, texts, positions, tokens, WORTH_READING)):
            return fitted
        window = _Window(info, request, likely=True)
        tokens = await window.count(request)
        if tokens <= limit:
            return Fitted(request, texts, positions, tokens, tokens)
    if shorten_it and (fitted := await _cut(window, write, texts, positions, tokens, 0)):
        return fitted
    if info.listed:
        return Fitted(request, texts, positions, tokens, tokens)
    counted = "" if info.count else "about "
    even = ", even with nothing of the proposals left," if shorten_it else ""
    raise ModelError(
        f"the prompt has {counted}{tokens:,} tokens and{even} does not fit: {model} reads {info.window:,}, "
        f"of which {window.room:,} are kept for the answer",
        "window",
    )


async def _cut(
    window: _Window, write: Write, texts: tuple[str, ...], positions: tuple[int, ...], tokens: int, floor: int
) -> Fitted | None:
    """The request with all the texts shortened as needed; a draft only where else too little were left of the others.

    `None` if the longest would have to be shorter than `floor`.
    """
    others = [place for place, position in enumerate(positions) if position != DRAFT]
    if len(others) < len(texts) and (
        fitted := await _shortened(window, write, texts, positions, tokens, others, WORTH_READING)
    ):
        return fitted
    return await _shortened(window, write, texts, positions, tokens, range(len(texts)), floor)


async def _shortened(
    window: _Window,
    write: Write,
    texts: tuple[str, ...],
    positions: tuple[int, ...],
    before: int,
    places: Sequence[int],
    floor: int,
) -> Fitted | None:
    """The request with the longest of the texts at `places` cut to a common length, `None` if it must be below `floor`.

    `before` is what the whole prompt has. The length is found by trying: how many tokens a shortened prompt has is
    nearly in proportion to it.
    """
    limit = window.limit or 0
    # How many tokens a tokenizer counts for one by the estimate, in which lengths are measured.
    scale = 1.0 if window.info.count is None else before / max(1, estimate_tokens(write(texts, positions)))
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
        request = write(now, positions)
        after = await window.count(request)
        if after <= limit:
            cuts = tuple(
                _told(positions[place], sizes[place] * scale, window.size(now[place]) * scale) for place in cut
            )
            best, fits = Fitted(request, now, positions, before, after, cuts), level
            if limit - after <= limit // UNUSED:
                break
        else:
            too_long = level
        if attempt < ATTEMPTS:
            level += int((limit - after) / scale / max(1, len(cut)))
        else:
            level = (fits + too_long) // 2
    return best


def _told(position: int, before: float, after: float) -> Cut:
    """In whole tokens; what was cut has fewer, however little it was."""
    whole = max(1, round(before))
    return Cut(position, whole, min(round(after), whole - 1))


def _level(sizes: Collection[int], total: float) -> int:
    """The length to which the longest must be cut so that all together have `total`."""
    left = total
    ordered = sorted(sizes)
    for number, size in enumerate(ordered):
        share = left / (len(ordered) - number)
        if size > share:
            return max(0, int(share))
        left -= size
    return ordered[-1] if ordered else 0
