r"""Reads from an answer what it states, so that votes can count equal statements. Nothing is guessed.

A statement stands in a box (`\boxed{…}`), behind `####` on the last line, or behind "answer is" or "answer:". A text
that is nothing but one number, one choice letter or one short phrase is a statement as a whole. A text that states two
different things states nothing, and neither does prose.

Reading an answer in order to grade it can be lenient, because the right answer is known. A vote has to be strict: two
statements that are counted as one decide the answer of the run. So a number counts by its value only where the whole
statement is one number, with at most one unit. Everything else counts as it is written, apart from case, spaces and
markup. A fraction is not worked out: 2/4 may be a date.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

LONGEST = 200  # characters of a statement; a longer one is no statement
MOST = 100  # statements that are read in one text; a text with more states nothing
PHRASE = 80  # characters of a short phrase
PHRASE_WORDS = 10  # words of a short phrase behind "answer"
ALONE_WORDS = 5  # words of a short phrase that is a whole answer

Kind = Literal["number", "percent", "words"]


class Stated(Struct, frozen=True):
    """What an answer states.

    kind: whether the statement counts by its value ("number", "percent") or by its words
    key: the value as plain decimal digits, or the words without markup
    unit: unit of a number; "" for none
    shown: the statement as it is written, on one line
    """

    kind: Kind
    key: str
    unit: str
    shown: str


def stated(text: str) -> Stated | None:
    """What the text states; `None` if it states nothing, or different things.

    The time is in proportion to the length of the text.
    """
    for form in (_boxed, _behind_hashes):
        end, found = form(text)
        if found:
            # A later "the answer is …" may take back what the box says.
            later = [*found, *(each for each in map(read, _behind_answer(text, end)) if each is not None)]
            return _one(later)
    behind = [each for each in map(read, _behind_answer(text)) if each is not None]
    return _one(behind) if behind else _alone(text)


def whole(text: str) -> Stated | None:
    """The whole text as a statement, apart from its white space; `None` for an empty text."""
    words = " ".join(text.split())
    return Stated("words", words, "", words[:PHRASE]) if words else None


def same(one: Stated, other: Stated) -> bool:
    """Whether two statements are the same. A number without a unit is the same with any unit."""
    units = one.unit == other.unit or not (one.unit and other.unit)
    return (one.kind, one.key) == (other.kind, other.key) and units


def _one(found: Sequence[Stated | None]) -> Stated | None:
    """The statement that all of `found` make, with the unit that one of them has; `None` if they differ."""
    first = next((each for each in found if each is not None and each.unit), found[0])
    if first is None or len(found) > MOST:
        return None
    return first if all(each is not None and same(first, each) for each in found) else None


# Where a statement stands

_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
# Words and signs before a box, and signs after a box, with which the box is not the whole statement.
_NEGATED = re.compile(
    r"(?:\bnot|n[’']t|\bnever|[-−+*/^<>≠±]|\\(?:neq?|lt|gt|leq?|geq?|pm|approx|cdot|times))[\s$\\(]*$"
)
_CONTINUED = re.compile(r"(?:\w|[%^/*!°]|\\%|\\cdot|\\times|\s*[-+]\s*[\d\\])")


def _boxed(text: str) -> tuple[int, list[Stated | None]]:
    """The statements in boxes, `None` for each that cannot be read, and the end of the last box."""
    found: list[Stated | None] = []
    end = 0
    for box in _BOX.finditer(text):
        if box.start() < end:
            continue  # a box in a box
        if len(found) > MOST:
            break
        content = _braced(text, box.end())
        if content is None:
            found.append(None)
            continue
        end = box.end() + len(content) + 1
        partial = _NEGATED.search(text, max(0, box.start() - 20), box.start()) or _CONTINUED.match(text, end)
        inner = _BOX.match(content)
        if inner and content.endswith("}"):
            content = content[inner.end() : -1]
        found.append(None if partial else read(content))
    return end, found


def _braced(text: str, start: int) -> str | None:
    """The text from `start` to the brace that closes a brace before `start`; `None` if that is too far away."""
    depth = 1
    for place in range(start, min(len(text), start + LONGEST + 1)):
        if text[place] in "{}" and text[place - 1] != "\\":
            depth += 1 if text[place] == "{" else -1
            if not depth:
                return text[start:place]
    return None


_HASHES = re.compile(r"^[ \t]*####(?!#)[ \t]*(.*)$", re.MULTILINE)


def _behind_hashes(text: str) -> tuple[int, list[Stated | None]]:
    """The statements behind `####`, if the last line of the text is one; the end of the text.

    Elsewhere `####` is a heading in Markdown.
    """
    last = text.rstrip().rpartition("\n")[2]
    if not _HASHES.match(last):
        return 0, []
    lines = [line for _, line in zip(range(MOST + 1), _HASHES.finditer(text), strict=False)]
    return len(text), [read(line[1]) for line in lines]


_ANSWER = re.compile(r"\banswer\b", re.IGNORECASE)
_IS = re.compile(
    r"[\s*_]*(?:\b(?:is|=)|[:：])(?!\w)[ \t*_]*:?[ \t]*(?:\*\*|__)?(?!\s*(?:not|never|neither)\b)", re.IGNORECASE
)
_TOKEN = re.compile(r"[\w’']+|[^\w\s]")
_KINDS = {"final", "correct", "right", "best", "exact", "short", "numerical", "numeric", "overall"}
_THE = {"the", "my", "our"}
_LINKS = {"so", "thus", "hence", "therefore", "then", "and", "finally"}
_UNSURE = {
    "if",
    "whether",
    "suppose",
    "supposing",
    "assume",
    "assuming",
    "unless",
    "not",
    "isn't",
    "isn’t",
    "why",
    "what",
}


def _behind_answer(text: str, start: int = 0) -> Iterator[str]:
    """The short phrases behind "answer is" and "answer:", from the place `start` of the text."""
    number = 0
    for word in _ANSWER.finditer(text, start):
        verb = _IS.match(text, word.end())
        if verb is None or not _is_claimed(text[max(0, word.start() - 60) : word.start()].rpartition("\n")[2]):
            continue
        if (phrase := _paragraph(text, verb.end())) is None or _is_claim(phrase):
            continue  # "the answer is: The answer is 5" is read at its second "answer"
        head = text[max(0, word.start() - 400) : verb.end()].rpartition("\n\n")[2]
        for mark in ("**", "__", "*", "_"):
            if head.count(mark) % 2 and phrase.rstrip(".").endswith(mark):  # the emphasis began before the statement
                phrase = phrase.rstrip(".").removesuffix(mark).rstrip()
        if 0 < len(phrase) <= PHRASE and len(phrase.split()) <= PHRASE_WORDS and _is_balanced(phrase):
            number += 1
            if number > MOST + 1:
                return
            yield phrase


def _is_balanced(phrase: str) -> bool:
    """Whether brackets and quotation marks are closed, as they are not in a piece of code. [0, 1) is closed, too."""
    opened, closed = (sum(map(phrase.count, marks)) for marks in ("([{", ")]}"))
    return opened == closed and phrase.count('"') % 2 == phrase.count("`") % 2 == 0


def _is_claimed(before: str) -> bool:
    """Whether the words of the line before "answer" claim an answer of the author's own.

    "The wrong answer is", "Bob's answer is" and "if the answer is" do not.
    """
    words = [word.lower() for word in _TOKEN.findall(before)]
    while words and words[-1] in _KINDS:
        words.pop()
    if not words or not words[-1][0].isalpha() or words[-1] in _LINKS:
        return True
    return words.pop() in _THE and not (words and words[-1] in _UNSURE)


def _is_claim(phrase: str) -> bool:
    """Whether the phrase begins with a claim such as "The answer is", and something is claimed after it."""
    word = _ANSWER.search(phrase)
    verb = word and _IS.match(phrase, word.end())
    if not (word and verb and phrase[verb.end() :].strip(" .*_")):
        return False
    before = [each.lower() for each in _TOKEN.findall(phrase[: word.start()]) if each not in "*_,:"]
    return all(each in _KINDS | _THE | _LINKS for each in before) and _is_claimed(phrase[: word.start()])


def _paragraph(text: str, start: int) -> str | None:
    """The rest of the paragraph at `start`. If nothing is left of it, the next paragraph, if that is the last.

    `None` if the paragraph is too long for a statement. It is read as a whole, because "x = 1" and "y = 2" may stand on
    two lines.
    """
    rest = text[start : start + LONGEST + 1]
    blank = len(rest) - len(rest.lstrip())
    paragraph, more, _ = _split(rest.strip() if len(rest) <= LONGEST else rest.lstrip())
    if more or len(rest) <= LONGEST:
        return None if more and rest[:blank].count("\n") > 1 else paragraph
    return None


def _split(text: str) -> tuple[str, str, str]:
    gap = re.search(r"\n[ \t]*\n", text)
    return (text, "", "") if gap is None else (text[: gap.start()], gap[0], text[gap.end() :])


_TALK = re.compile(r"(?:i|we|sorry|unfortunately)\b(?!$|\s+(?:and|or|only)\b)", re.IGNORECASE)


def _alone(text: str) -> Stated | None:
    """The statement of a text that is one number, one choice letter or one short phrase, and nothing else."""
    words = text.strip()
    if len(words) > PHRASE or "\n" in words or len(words.split()) > ALONE_WORDS:
        return None
    if _TALK.match(words) or _ANSWER.search(words):  # "I am not sure", "the answer is not known"
        return None
    return read(words)


# How a statement is read

_MARKUP = (
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("_", "_"),
    ("`", "`"),
    ('"', '"'),
    ("“", "”"),
    ("'", "'"),
    ("‘", "’"),
)
_FORMULA = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_TEX = tuple(
    (re.compile(pattern), to)
    for pattern, to in (
        (r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s*\{([^{}]*)\}", r"\1"),
        (r"\\(?:left|right)(?=[()\[\]|.\\])", ""),
        (r"(?<=\d)(?:\{,\}|,\\!|\\[,!])(?=\d{3}(?!\d))", ","),
        (r"\\[,;:! ]", " "),
        (r"\\([%$#&])", r"\1"),
        (r"\\[dt]frac\b", r"\\frac"),
        (r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ\b)", "°"),
    )
)
_CHOICE = re.compile(r"(?:(?:option|choice)\s+)?(?:\(([A-Za-z])\)|([A-Za-z])\)?)", re.IGNORECASE)
_FRACTION = re.compile(r"(-?)\\frac(?:\{\s*(-?\d+)\s*\}\s*\{\s*(-?\d+)\s*\}|(\d)(\d))")
NOTHING = {"", "unknown", "not known", "unclear", "not clear", "not sure", "undetermined", "n/a", "?"}


def read(words: str) -> Stated | None:
    """The statement that these words are; `None` for words that state nothing, such as "unknown"."""
    shown = " ".join(words.split())
    text = _bare(unicodedata.normalize("NFC", shown).replace("−", "-"))
    if len(shown) > LONGEST or text.lower() in NOTHING:
        return None
    if choice := _CHOICE.fullmatch(text):
        return Stated("words", (choice[1] or choice[2]).upper(), "", shown)
    if (number := _number(text, shown)) is not None:
        return number
    if fraction := _FRACTION.fullmatch(text):
        sign, above, below, *digits = fraction.groups()
        text = f"{sign}{above or digits[0]}/{below or digits[1]}"
    return Stated("words", _words(text), "", shown)


def _bare(text: str) -> str:
    """The text without emphasis, quotation marks, marks of formulas and final punctuation around it."""
    for pattern, to in _TEX:
        text = pattern.sub(to, text)
    before = ""
    while text != before:
        before, text = text, text.strip()
        for opening, closing in (*_MARKUP, *_FORMULA):
            inner = text[len(opening) : len(text) - len(closing)]
            around = text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing)
            if around and closing not in inner and opening not in inner:
                text = inner.strip()
        if text[-1:] in (",", ";", ":") or (text.endswith(".") and not text.endswith("..")):
            text = text[:-1]
        if text.endswith("!") and text[-2:-1].isalpha() and not _is_formula(text):
            text = text[:-1]
    return text


_NUMBER = re.compile(
    r"(?P<sign>[-+]?)(?P<money>[$€£]?)(?P<minus>-?)"
    r"(?P<digits>(?:[1-9]\d{0,2}(?:,\d{3})+|0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?P<gap>\s*)(?P<unit>[^\d\s].*)?"
)
_UNITS = {
    name: unit
    for unit, names in {
        "km": "km kilometer kilometers kilometre kilometres",
        "m": "meter meters metre metres",
        "cm": "cm centimeter centimeters centimetre centimetres",
        "mm": "mm millimeter millimeters millimetre millimetres",
        "mile": "mile miles",
        "foot": "ft foot feet",
        "inch": "inch inches",
        "kg": "kg kilogram kilograms",
        "g": "gram grams",
        "mg": "mg",
        "pound": "lb lbs pound pounds",
        "ounce": "oz ounce ounces",
        "hour": "hr hrs hour hours",
        "minute": "min mins minute minutes",
        "second": "sec secs second seconds",
        "day": "day days",
        "week": "week weeks",
        "month": "month months",
        "year": "year years",
        "mph": "mph",
        "km/h": "km/h kph",
        "liter": "liter liters litre litres",
        "ml": "ml",
        "dollar": "$ usd USD dollar dollars",
        "cent": "cent cents",
        "euro": "€ eur EUR euro euros",
        "£": "£ gbp GBP",
        "degree": "° degree degrees",
        "°C": "°C",
        "°F": "°F",
        "%": "% percent",
    }.items()
    for name in names.split()
}
_CLOSE = {
    "%",
    "°",
    "°C",
    "°F",
    "km",
    "cm",
    "mm",
    "kg",
    "mg",
    "ml",
    "mph",
    "km/h",
}  # units that may follow without a space
_NOUN = re.compile(r"[a-z]{3,}s")
# Plurals that change a number, so that they are no units.
_FACTORS = re.compile(r".*(?:ths|rds|ss|us|is|dozens|tens|hundreds|thousands|illions|times|halves|quarters|squares)")


def _number(text: str, shown: str) -> Stated | None:
    """The number that the text is, with at most one unit; `None` if the text is anything else."""
    match = _NUMBER.fullmatch(text)
    if match is None or (match["sign"] and match["minus"]) or (match["money"] and match["unit"]):
        return None
    unit = match["money"] or match["unit"] or ""
    if unit:
        name = unit.lower() if len(unit) > 3 else unit
        if not match["money"] and not match["gap"] and name not in _CLOSE:
            return None
        known = _UNITS.get(name)
        if known is None and (not _NOUN.fullmatch(name) or _FACTORS.fullmatch(name)):
            return None
        unit = known or name.removesuffix("s")
    whole, _, part = match["digits"].replace(",", "").partition(".")
    digits = f"{whole or '0'}.{part.rstrip('0')}".removesuffix(".")
    negative = "-" in (match["sign"], match["minus"]) and digits != "0"
    return Stated("percent" if unit == "%" else "number", f"{'-' * negative}{digits}", unit, shown)


_SPACED = re.compile(r"(?:(?<=\S) ([-+*/=<>^]) (?=\S))|(?:([,;]) )|(?:(?<=[(\[{]) )|(?: (?=[)\]}]))")


def _is_formula(text: str) -> bool:
    """Whether there is a digit or a sign of a formula in the text, so that case counts: 5 mW is not 5 MW."""
    return any(letter.isdigit() or letter in "+=<>^\\/*{}[]()|%$°√" for letter in text)


def _words(text: str) -> str:
    """The text as words are counted: without differences of case, or as a formula, without spaces around signs.

    Words of up to three letters may be symbols (Co and CO), so only their first letter loses its case. "Yes" and "no"
    are no symbols.
    """
    if _is_formula(text):
        return _SPACED.sub(lambda sign: sign[1] or sign[2] or "", text)
    return " ".join(
        word.lower() if len(word) > 3 or word.lower() in ("yes", "no") else word[:1].lower() + word[1:]
        for word in text.split()
    )
