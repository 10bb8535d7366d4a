"""Finds a quote in the text that it claims to come from. A quote that is not there is never found.

A quote stands in a text if the same characters follow each other there. These differences are allowed, because models
make them when they copy:

* white space: any run of it counts as one space
* the form of a character: accents composed or not, typographic or plain quotation marks and hyphens
* Markdown: marks of emphasis and code around words, and marks at the beginning of a line
* the case of the quote's first letter
* quotation marks, ellipses and punctuation at the ends of the quote

A quote may not begin or end inside a word or a number: "you can" does not stand in "you can't", "toxic" not in
"non-toxic", and "4" not in "4.5" or "-4". A quote that is too short to say anything does not stand anywhere: it needs
8 letters or digits, or 3 with a digit among them, unless it is a whole line or sentence of the text.
"""

import re
import unicodedata
from collections.abc import Iterator

from msgspec import Struct

LEAST = 8  # letters or digits of a quote
LEAST_WITH_DIGIT = 3
LONGEST = 2000  # characters of a quote
OCCURRENCES = 1000  # places that are looked at where a quote stands inside words
NEAR = 40  # characters beside a short quote in which the end of a sentence is looked for
MARKS = 20  # marks of Markdown that may be open at the same time on one line

_SAME = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
    }
)
_UNSEEN = frozenset("\u00ad\u200b\u2060\ufeff")  # the soft hyphen, and characters without width
_OPENINGS = frozenset("\"'…")
_CLOSINGS = frozenset("\"'….,;:!?")
_SENTENCE_ENDS = frozenset("\n.!?:;。！？")
_IN_NUMBERS = frozenset(".,:/^")
_MARK = re.compile(r"\*+|_+|~~|`+")
_OF_LINE = re.compile(r"[ \t]{0,12}(?:(?:>[ \t]?){1,3}|#{1,6}[ \t]+|[-*+][ \t]+)")
_FENCE = re.compile(r"[ \t]{0,3}(?:```|~~~)")
# First and last code points of Thai to Burmese, Khmer, Chinese and Japanese, and of the supplementary ideographs.
_UNSPACED = ((0x0E00, 0x109F), (0x1780, 0x17FF), (0x2E80, 0xD7FF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


class _Form(Struct, frozen=True):
    """A text in one form for comparing.

    text: the characters to compare
    starts, ends: for each of these characters, the indexes in the original text at which it begins and ends
    """

    text: str
    starts: list[int]
    ends: list[int]


class Source:
    """A text in which quotes are looked for."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._forms: list[_Form] = []  # made one after the other, since most quotes stand in the first
        self._left = _forms(text)

    def find(self, quote: str) -> tuple[int, int] | None:
        """Where the quote stands: the indexes of its first character and of the character after its last.

        Returns `None` if the quote does not stand in the text, or if it is too short or too long to be a quote.
        """
        if len(quote) > LONGEST:
            return None
        spellings = tuple(dict.fromkeys(words for form in _forms(quote) for words in _spellings(form.text)))
        for form in self._all():
            for words in spellings:
                if (found := self._stands(form, words)) is not None:
                    return found
        return None

    def _all(self) -> Iterator[_Form]:
        yield from self._forms
        for form in self._left:
            self._forms.append(form)
            yield form

    def _stands(self, form: _Form, words: str) -> tuple[int, int] | None:
        """Where `words` stand in a form, neither inside a word nor too short; `None` if they do not."""
        place = form.text.find(words)
        for _ in range(OCCURRENCES):
            if place < 0:
                return None
            last = place + len(words)
            start, end = form.starts[place], form.ends[last - 1]
            whole = not (_cuts(form.text, place) or _cuts(form.text, last))
            if whole and (_says_enough(words) or _is_sentence(self.text, start, end)):
                return start, end
            place = form.text.find(words, place + 1)
        return None


def stripped(quote: str) -> str:
    """The quote without quotation marks, ellipses and punctuation at its ends, which need not stand in the text."""
    begin, end = 0, len(quote)
    while begin < end and (quote[begin].isspace() or quote[begin].translate(_SAME) in _OPENINGS):
        begin += 1
    while begin < end and (quote[end - 1].isspace() or quote[end - 1].translate(_SAME) in _CLOSINGS):
        end -= 1
    return quote[begin:end]


def _spellings(words: str) -> Iterator[str]:
    """The words of a quote as they may stand in a text: the first letter may be large or small."""
    words = stripped(words)
    if words:
        yield words
        other = words[0].swapcase()
        if other != words[0] and len(other) == 1:
            yield other + words[1:]


def _says_enough(words: str) -> bool:
    # A character of a script without spaces says as much as several letters.
    said = sum(3 if _is_unspaced(letter) else 1 for letter in words if letter.isalnum())
    return said >= LEAST or (said >= LEAST_WITH_DIGIT and any(letter.isdigit() for letter in words))


def _is_sentence(text: str, start: int, end: int) -> bool:
    """Whether the part of a text from `start` to `end` is a whole sentence or line of it."""
    before = text[max(0, start - NEAR) : start].rstrip(" \t\"'(*_`#>|+-")
    after = text[end : end + NEAR].lstrip(" \t\"')*_`|")
    begins = before[-1] in _SENTENCE_ENDS if before else start <= NEAR
    return begins and (not after or after[0] in _SENTENCE_ENDS)


def _cuts(text: str, place: int) -> bool:
    """Whether the place before the character with this index is inside a word or a number."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if unicodedata.category(after).startswith("M"):
        return True
    if before.isalnum() and after.isalnum():
        return not (_is_unspaced(before) or _is_unspaced(after))
    if before.isalnum():
        return place + 1 < len(text) and _joins(before, after, text[place + 1])
    if after.isalnum():
        if before in "+-" and after.isdigit():
            return True  # a sign
        return place > 1 and _joins(text[place - 2], before, after)
    return False


def _joins(before: str, sign: str, after: str) -> bool:
    """Whether a sign joins two characters to one word or one number, as in can't, non-toxic, 4.5, 7:30 and 3/4."""
    if sign in "'-_":
        return before.isalnum() and after.isalnum()
    return sign in _IN_NUMBERS and before.isdigit() and after.isdigit()


def _is_unspaced(letter: str) -> bool:
    """Whether the letter belongs to a script that is written without spaces between words."""
    code = ord(letter)
    return any(first <= code <= last for first, last in _UNSPACED) if code >= _UNSPACED[0][0] else False


def _forms(text: str) -> Iterator[_Form]:
    """The text as it is, without marks around words, and also without marks at the beginnings of lines."""
    yield _form(text, frozenset())
    if marks := frozenset(_marks_around_words(text)):
        yield _form(text, marks)
    if more := frozenset(_marks_of_lines(text)):
        yield _form(text, marks | more)


def _form(text: str, removed: frozenset[int]) -> _Form:
    """The text in composed characters with single spaces, without the characters at the indexes `removed`."""
    letters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    index = 0
    while index < len(text):
        start, index = index, index + 1
        letter = text[start]
        if start in removed or letter in _UNSEEN:
            continue
        if letter.isspace():
            if letters and letters[-1] == " ":
                continue
            same = " "
        elif letter.isascii() and (index == len(text) or text[index].isascii()):
            same = letter
        else:
            while index < len(text) and unicodedata.category(text[index]).startswith("M"):
                index += 1
            same = unicodedata.normalize("NFC", text[start:index]).translate(_SAME)
        for each in same:
            letters.append(each)
            starts.append(start)
            ends.append(index)
    return _Form("".join(letters), starts, ends)


def _marks_around_words(text: str) -> Iterator[int]:
    """The indexes of paired marks of emphasis, deletion and code, outside fenced code. A pair is on one line."""
    for start, line in _prose(text):
        open_marks: list[re.Match[str]] = []
        code: re.Match[str] | None = None
        for mark in _MARK.finditer(line):
            if code is not None or mark[0][0] == "`":
                if code is None:
                    code = mark
                elif mark[0] == code[0]:
                    yield from _indexes(start, code, mark)
                    code = None
                continue
            before, after = line[mark.start() - 1 : mark.start()], line[mark.end() : mark.end() + 1]
            closes = before and not before.isspace() and not after.isalnum()
            pair = next((each for each in reversed(open_marks) if each[0] == mark[0]), None) if closes else None
            if pair is not None:
                del open_marks[open_marks.index(pair) :]
                yield from _indexes(start, pair, mark)
            elif after and not after.isspace() and not before.isalnum() and len(open_marks) < MARKS:
                open_marks.append(mark)


def _indexes(start: int, *marks: "re.Match[str]") -> Iterator[int]:
    for mark in marks:
        yield from range(start + mark.start(), start + mark.end())


def _marks_of_lines(text: str) -> Iterator[int]:
    """The indexes of the marks of headings, quotations and list items, outside fenced code."""
    for start, line in _prose(text):
        if mark := _OF_LINE.match(line):
            yield from range(start, start + mark.end())


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Each line outside fenced code, with the index at which it begins."""
    start, inside = 0, False
    for line in text.splitlines(keepends=True):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield start, line
        start += len(line)
