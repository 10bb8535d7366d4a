"""Removes marks of the prompt's fence from an answer, since small models sometimes copy them from the prompt.

If the answer must be JSON, a Markdown code fence around it is removed too.

The fence's word occurs nowhere else, so text that looks like a mark of the fence is one. While an answer is streamed,
only text that may become a mark is held back.
"""

import asyncio

from partsong.engine.code_fence import CodeFence, without_code_fence
from partsong.engine.marks import Marks
from partsong.model import Part, Text
from partsong.prompts import fence_word

LONGEST_MARK = 80  # characters
STEP = 16_384  # characters that are read at once: 20 ms at worst, for a text that is full of beginnings of marks


class Unfencing:
    """Cleans one answer. `take` gets the text in pieces, and returns the text to pass on.

    proposals: texts that made the word of the prompt's fence; see `prompts.fence_word`
    json: whether the answer must be JSON, so that a code fence around it is removed too (default: no)
    """

    def __init__(self, proposals: tuple[str, ...], json: bool = False) -> None:
        self._code_fence = CodeFence() if json else None
        self._name = f"proposal-{fence_word(proposals)}"
        self._marks = Marks(self._name, LONGEST_MARK)

    async def take(self, text: str) -> str:
        text = await _read(self._marks, text)
        return text if self._code_fence is None else self._code_fence.take(text)

    def rest(self) -> str:
        """The text that is still held back at the end of the answer, because no mark came of it."""
        held = self._marks.rest()
        return held if self._code_fence is None else self._code_fence.take(held) + self._code_fence.rest()

    async def cleaned(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """The parts of the whole answer, without marks of the fence."""
        made = [Text(await self._without_marks(part.text)) if isinstance(part, Text) else part for part in parts]
        return tuple(made) if self._code_fence is None else without_code_fence(tuple(made))

    async def _without_marks(self, text: str) -> str:
        if self._name not in text:  # the innermost of all marks has the name in one piece
            return text
        marks = Marks(self._name, LONGEST_MARK)
        return await _read(marks, text) + marks.rest()


async def _read(marks: Marks, text: str) -> str:
    """What `Marks.take` returns for the text, read in steps, so that other tasks get a turn in between."""
    if len(text) <= STEP:
        return marks.take(text)
    passed = []
    for start in range(0, len(text), STEP):
        passed.append(marks.take(text[start : start + STEP]))
        await asyncio.sleep(0)
    return "".join(passed)
