"""Decides whether an answer is right: finds the final answer in a text, and compares it as a number or as text.

Numbers are compared as fractions, so that 1/2, 0.5, 50 % and \\frac{1}{2} are equal. A unit after a number is ignored.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_NUMBER = rf"[-−+]?\s?\$?{_WHOLE}(?:\.\d+)?(?:\s*/\s*\d+)?(?:\s*\\?%)?|[-−+]?\.\d+"
# A number alone, or one with a unit: behind a space, or longer than the name of a variable.
_QUANTITY = re.compile(rf"(?:{_NUMBER})(?:\s+[a-zA-Z°]+|°C?|[a-zA-Z]{{2,}})*")
_SAID = re.compile(r"(?:final\s+)?answer(?:\s+is)?\s*[:=]?\s*(.+)", re.IGNORECASE)
_CHOICE = re.compile(r"\b([A-J])\b")


def boxed(text: str) -> str | None:
    """The content of the last \\boxed{…}, with balanced braces; `None` if there is none."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for index in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if not depth:
            return text[start + 7 : index]
    return None


def stated(text: str) -> str | None:
    """The answer that the text marks as such: boxed, after ####, or after “answer is”; the last one of several."""
    if (inside := boxed(text)) is not None:
        return inside
    if "####" in text:
        return text.rpartition("####")[2].strip().partition("\n")[0]
    if said := _SAID.findall(text):
        return str(said[-1]).strip()
    return None


def final_answer(text: str) -> str:
    """The final answer of a text: the one that is marked as such, else the last line."""
    if (said := stated(text)) is not None:
        return said
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def right(text: str, references: Sequence[str]) -> bool:
    """Whether the final answer of the text equals one of the references."""
    return any(equal(text, reference) for reference in references)


def equal(text: str, reference: str) -> bool:
    """Whether the final answer equals the reference: as a number if the reference is a number, else as text."""
    if _QUANTITY.fullmatch(_even(reference).strip(" .")):
        return number_of(text) == number(reference)
    return _plain(final_answer(text)) == _plain(reference)


def number_of(text: str) -> Fraction | None:
    """The number that is the final answer: the first one in the marked answer, else the last one in the text."""
    if (said := stated(text)) is not None:
        return number(said)
    found = numbers(text)
    return found[-1] if found else None


def number(text: str) -> Fraction | None:
    """The number in an answer, without a unit or an explanation after it; in an equation, the right side."""
    found = numbers(text.rpartition("=")[2]) or numbers(text)
    return found[0] if found else None


def numbers(text: str) -> list[Fraction]:
    """Every number in the text, in order. A fraction with the denominator 0 is left out."""
    found = (_value(re.sub(r"[\s,$\\+]", "", word)) for word in re.findall(_NUMBER, _even(text)))
    return [value for value in found if value is not None]


def choice(text: str) -> str | None:
    """The letter chosen in a multiple choice; `None` if the final answer has none, or several different ones."""
    letters = set(_CHOICE.findall(final_answer(text)))
    return letters.pop() if len(letters) == 1 else None


def meaning(text: str) -> Fraction | str:
    """The final answer in a form that can be counted: as a number, else as text without spaces and signs."""
    found = number_of(text)
    return _plain(final_answer(text)) if found is None else found


def _even(text: str) -> str:
    """The text with fractions written a/b, and without the LaTeX and Markdown around numbers."""
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}", r"(\1)/(\2)", text)
    text = re.sub(r"\\[dt]?frac\s*(\d)\s*(\d)", r"\1/\2", text)
    return re.sub(r"\\text\s*\{[^{}]*\}|\\[,!; ]|\$|\*|[()]", "", text).replace("−", "-")


def _value(word: str) -> Fraction | None:
    percent, word = word.endswith("%"), word.rstrip("%")
    over, _, under = word.partition("/")
    if under and not int(under):
        return None
    value = Fraction(over) / (int(under) if under else 1)
    return value / 100 if percent else value


def _plain(text: str) -> str:
    text = re.sub(r"\\text\s*\{([^{}]*)\}|\\left|\\right|\\[,!; ]", r"\1", text)
    return re.sub(r"[\s$*`\"'“”.]+", "", text).casefold()
