"""Decides whether an answer is right: finds the final answer in a text, and compares it as a number or as text.

Numbers are compared as fractions, so that 1/2, 0.5, 50 % and \\frac{1}{2} are equal. A unit after a number is ignored.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_NUMBER = rf"[-−+]?\s?\$?{_WHOLE}(?:\.\d+)?(?:\s*/\s*\d+)?(?:\s*\\?%)?|[-−+]?\.\d+"
# A number, alone or with a unit. A unit of one letter must follow a space, because 2x is a term with a variable.
_QUANTITY = re.compile(rf"(?:{_NUMBER})(?:\s+[a-zA-Z°]+|°C?|[a-zA-Z]{{2,}})*")
_SAID = re.compile(r"(?:final\s+)?answer(?:\s+is)?\s*[:=]?\s*(.+)", re.IGNORECASE)
_CHOICE = re.compile(r"\b([A-J])\b")


def boxed(text: str) -> str | None:
    """Return the text inside the last \\boxed{…}, which may contain balanced braces; `None` if there is no such box."""
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
    """Return the part of the text that is marked as the final answer; `None` if no part is marked.

    The marked answer is the content of the last \\boxed{…}. Without a box, it is the rest of the line after the last
    ####. Without either, it is the rest of the line after the last “answer is” or “answer:”.
    """
    if (inside := boxed(text)) is not None:
        return inside
    if "####" in text:
        return text.rpartition("####")[2].strip().partition("\n")[0]
    if said := _SAID.findall(text):
        return str(said[-1]).strip()
    return None


def final_answer(text: str) -> str:
    """Return the marked answer of a text (see `stated`), else its last line that is not blank; empty without lines."""
    if (said := stated(text)) is not None:
        return said
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def right(text: str, references: Sequence[str]) -> bool:
    """Return whether the final answer of the text equals one of the references (see `equal`)."""
    return any(equal(text, reference) for reference in references)


def equal(text: str, reference: str) -> bool:
    """Return whether the final answer of `text` equals `reference`.

    If the reference is a number, with or without a unit, the values are compared. Otherwise the texts are compared
    without case, spaces, quotes and full stops.
    """
    if _QUANTITY.fullmatch(_even(reference).strip(" .")):
        return number_of(text) == number(reference)
    return _plain(final_answer(text)) == _plain(reference)


def number_of(text: str) -> Fraction | None:
    """Return the final answer as a number; `None` if there is no number.

    The number is that of the marked answer (see `stated` and `number`). Without a marked answer, the number is the last
    number in the text.
    """
    if (said := stated(text)) is not None:
        return number(said)
    found = numbers(text)
    return found[-1] if found else None


def number(text: str) -> Fraction | None:
    """Return the first number in a short answer; `None` if there is no number.

    After an equals sign, the first number of the right side is returned.
    """
    found = numbers(text.rpartition("=")[2]) or numbers(text)
    return found[0] if found else None


def numbers(text: str) -> list[Fraction]:
    """Return all numbers in the text, in text order. Fractions with the denominator 0 are left out."""
    found = (_value(re.sub(r"[\s,$\\+]", "", word)) for word in re.findall(_NUMBER, _even(text)))
    return [value for value in found if value is not None]


def choice(text: str) -> str | None:
    """Return the letter, from A to J, that a text chooses in a multiple choice.

    Returns `None` if the final answer has no such letter as a word of its own, or several different letters.
    """
    letters = set(_CHOICE.findall(final_answer(text)))
    return letters.pop() if len(letters) == 1 else None


def meaning(text: str) -> Fraction | str:
    """Return the final answer in a form in which equal answers are equal values.

    The form is a number if there is a number in the answer. Otherwise it is the text in lower case, without spaces,
    quotes and full stops.
    """
    found = number_of(text)
    return _plain(final_answer(text)) if found is None else found


def _even(text: str) -> str:
    """Return the text with LaTeX fractions written as a/b, and without other LaTeX and Markdown around numbers."""
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
