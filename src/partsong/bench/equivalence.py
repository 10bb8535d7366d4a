"""Decides whether an answer is right: finds the final answer in a text, and compares it as a number or as text.

Numbers are compared as fractions, so that 1/2, 0.5, 50 % and \\frac{1}{2} are equal. A unit after a number is ignored.
A choice is compared by its letter, so that B, (B), **B.** and "(B) Lisbon" are equal. What follows "yes", "no", "true"
or "false" behind a punctuation mark is ignored.
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
# "the answer is" at the beginning of a marked answer, as in "the answer is: The answer is B"
_SAID_AGAIN = re.compile(
    r"[\s*_]*(?:(?:so|thus|hence|therefore),?\s+)?(?:the\s+)?(?:final\s+|correct\s+)?answer"
    r"(?:\s+is\b\s*[:=]?|\s*[:=])",
    re.IGNORECASE,
)
# A letter in brackets or alone, or such a letter before its option: "(B) Lisbon", "B. Lisbon", but not "B flat".
_LETTER = re.compile(r"(?:(?:option|choice)\s+)?(?:\(([A-Z])\)|([A-Z])(?=$|[).:]))(.*)", re.IGNORECASE | re.DOTALL)
# A second letter, with which the first is no choice: "(A) or (B)", "A. or B."
_OTHER = re.compile(r"\(([A-Z])\)|\b(?:and|or)\s+([A-Z])\b", re.IGNORECASE)
_BOOLEAN = re.compile(r"(yes|no|true|false)(?:[.,;:!\n–—].*)?", re.IGNORECASE | re.DOTALL)


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
        last = str(said[-1]).strip()
        again = _SAID_AGAIN.match(last)
        return last[again.end() :].strip() if again and last[again.end() :].strip(" .*_") else last
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

    If the reference is a number, with or without a unit, the values are compared. If the reference is a letter, with or
    without brackets, the letter that the answer chooses is compared (see `letter`). If the reference is yes, no, true
    or false, the answer has to be this word, and may go on after a punctuation mark. Otherwise the texts are compared
    without case, spaces, quotes and full stops.
    """
    if _QUANTITY.fullmatch(_even(reference).strip(" .")):
        return number_of(text) == number(reference)
    final = final_answer(text)
    if _plain(final) == _plain(reference):
        return True
    chosen, word = letter(reference), _boolean(reference)
    if chosen is not None and _plain(reference).strip("()") == chosen.casefold():
        return letter(final) == chosen
    return word is not None and _plain(reference) == word and _boolean(final) == word


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


def letter(final: str) -> str | None:
    """Return the letter, in upper case, that a final answer is or begins with, as in "B", "(B)" and "B. Lisbon".

    Returns `None` for other answers, and for answers that name a second letter.
    """
    found = _LETTER.fullmatch(_bare(final))
    if found is None:
        return None
    chosen = (found[1] or found[2]).upper()
    others = {(each[1] or each[2]).upper() for each in _OTHER.finditer(found[3])}
    return chosen if others <= {chosen} else None


def meaning(text: str) -> Fraction | str:
    """Return the final answer in a form in which equal answers are equal values.

    The form is the letter of a choice in lower case if the answer is one (see `letter`), or else a number if there is a
    number in the answer. Otherwise it is the text in lower case, without spaces, quotes and full stops.
    """
    final = final_answer(text)
    if (chosen := letter(final)) is not None:
        return chosen.casefold()
    found = number_of(text)
    return _boolean(final) or _plain(final) if found is None else found


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


def _bare(text: str) -> str:
    """Return a final answer without LaTeX and Markdown around its first word, and without white space around it."""
    text = re.sub(r"\\(?:text|textbf|textrm|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[()\[\]]|\*\*|__", "", text).strip(" \n\t$*_`\"'“”")
    return text.removesuffix(".") if len(text) < 5 else text


def _boolean(final: str) -> str | None:
    """Return "yes", "no", "true" or "false", if the final answer is this word and nothing or a sentence follows it."""
    found = _BOOLEAN.fullmatch(_bare(final))
    return found[1].casefold() if found else None


def _plain(text: str) -> str:
    text = re.sub(r"\\text\s*\{([^{}]*)\}|\\left|\\right|\\[,!; ]", r"\1", text)
    return re.sub(r"[\s$*`\"'“”.]+", "", text).casefold()
