"""Whether an answer is the right one: the final answer is found in the words, and compared as a number or as text.

Numbers are compared as fractions, so that 1/2, 0.5, 50 % and \\frac{1}{2} are the same; a unit behind one is let go.
"""

import re
from fractions import Fraction

_NUMBER = r"[-−+]?\s?\$?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?(?:\s*\\?%)?|[-−+]?\.\d+"
_SAID = re.compile(r"(?:final\s+)?answer(?:\s+is)?\s*[:=]?\s*(.+)", re.IGNORECASE)
_CHOICE = re.compile(r"\b([A-J])\b")


def boxed(text: str) -> str | None:
    """What stands in the last \\boxed{…}, with its braces balanced."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for place in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[start + 7 : place]
    return None


def final_answer(text: str) -> str:
    """The answer that the words come to: boxed, behind ####, behind “answer is”, or the last line."""
    if (inside := boxed(text)) is not None:
        return inside
    if "####" in text:
        return text.rpartition("####")[2].strip()
    if said := _SAID.findall(text):
        return str(said[-1]).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def number(text: str) -> Fraction | None:
    """The number that the text is, if it is one, whatever unit stands around it."""
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}", r"(\1)/(\2)", text)
    text = re.sub(r"\\text\s*\{[^{}]*\}|\\[,!; ]|\$|\*|[()]", "", text).replace("−", "-")
    found = re.findall(_NUMBER, text)
    if not found:
        return None
    word = re.sub(r"[\s,$\\+]", "", found[-1])
    percent, word = word.endswith("%"), word.rstrip("%")
    over, _, under = word.partition("/")
    if under and not int(under):
        return None
    value = Fraction(over) / (int(under) if under else 1)
    return value / 100 if percent else value


def equal(answer: str, reference: str) -> bool:
    """Whether the two say the same: as numbers where the reference is one, else as text."""
    right = number(reference)
    if right is not None and re.fullmatch(r"[\s\d.,/%+\-−$\\{}a-z]*", reference):
        return number(answer) == right
    return _plain(answer) == _plain(reference)


def choice(text: str) -> str | None:
    """The letter that a multiple choice came to: the one in the final answer, if there is just one."""
    letters = set(_CHOICE.findall(final_answer(text)))
    return letters.pop() if len(letters) == 1 else None


def _plain(text: str) -> str:
    text = re.sub(r"\\text\s*\{([^{}]*)\}|\\left|\\right|\\[,!; ]", r"\1", text)
    return re.sub(r"[\s$*`\"'“”.]+", " ", text).strip().casefold()
