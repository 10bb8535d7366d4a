"""Quotes: none that is not there is found, and none that is there is missed."""

import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from partsong.engine.quotes import Source, stripped

LANDING = "The landing was in **July 1969**, by Apollo 11.\n\n- It took *eight* days.\n- `x = 4` holds.\n\nYes."


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("The landing was in **July 1969**", "The landing was in **July 1969**"),
        ("the landing was in July 1969", "The landing was in **July 1969"),
        ("“in July   1969 …”", "in **July 1969"),
        ("by Apollo 11.", "by Apollo 11"),
        ("It took eight days. x = 4 holds", "It took *eight* days.\n- `x = 4` holds"),
        ("yes", "Yes"),
        ("x = 4 holds", "x = 4` holds"),
    ],
)
def test_what_is_there_is_found_whatever_marks_stand_around_it(quote: str, found: str) -> None:
    place = Source(LANDING).find(quote)
    assert place is not None
    assert LANDING[slice(*place)] == found


@pytest.mark.parametrize(
    "quote",
    [
        "The landing was in July 1968",
        "the landing in July 1969",  # a word is left out
        "by Apollo 1",  # a number is cut off
        "landing was in Jul",  # so is a word
        "It took … days",  # put together from two places
        "by Apollo 11, Yes",
        "the",
        "was in",
        "Landing Was In",
        "",
        " … ",
        "The landing was in July 1969 " * 100,
    ],
)
def test_what_is_not_there_or_says_nothing_is_not_found(quote: str) -> None:
    assert Source(LANDING).find(quote) is None


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ("You can't eat it.", "You can"),
        ("You can’t eat this one.", "surely you can"),
        ("So you can’t eat this one.", "So you can"),
        ("It is non-toxic to cats.", "toxic to cats"),
        ("It is non‑toxic to cats.", "toxic to cats"),
        ("It is untouched by it.", "touched by it"),
        ("It weighs 4.5 kg here.", "It weighs 4"),
        ("It costs 1,000 francs.", "It costs 1"),
        ("It costs 1,000 francs.", "000 francs"),
        ("It leaves at 7:30 sharp.", "It leaves at 7"),
        ("It is -4 degrees there.", "4 degrees there"),
        ("It is −4 degrees there.", "4 degrees there"),
        ("It is 3/4 of them.", "4 of them all"),
        ("It is 3/4 of them.", "It is 3"),
        ("It is 10⁵ of them.", "It is 10"),
        ("It is 10⁵ of them.", "It is 105 of them"),
        ("It is 10–20 minutes.", "It is 10"),
        ("f(*args, *others) is called", "f(args, others) is called"),
        ("2**3 is what it is", "23 is what it is"),
        ("```\na *b* c is what it is\n```", "a b c is what it is"),
        ("It is café au lait", "It is cafe"),
        ("It is cafe\u0301 au lait", "It is cafe"),
    ],
)
def test_no_quote_ends_inside_a_word_or_a_number_or_means_another(text: str, quote: str) -> None:
    assert Source(text).find(quote) is None


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ("It is cafe\u0301 au lait", "It is café au lait"),
        ("“It’s so”, she said – and left", '"It\'s so", she said - and left'),
        ("天空是蓝色的，因为散射。", "天空是蓝色"),
        ("# The **whole** of\n> it all _together_", "The whole of it all together"),
        ("**It is *all* bold**, so.", "It is all bold, so"),
        ("A\u00adB\u200bC is soft", "ABC is soft"),
        ("no\u00a0break\tspaces\r\nhere", "no break spaces here"),
        ("Paris", "Paris."),
        ("**Paris**", "paris"),
        ("I say: Paris. It is.", "Paris"),
        ("in 1969", "in 1969"),
    ],
)
def test_the_same_words_in_another_form_are_found(text: str, quote: str) -> None:
    assert Source(text).find(quote) is not None


WORDS = st.sampled_from(
    [
        "can",
        "can't",
        "non-toxic",
        "4",
        "4.5",
        "-4",
        "the",
        "it",
        "**bold**",
        "*a*",
        "_b_",
        "`x`",
        "x=4",
        "Über",
        "naïve",
        "天空",
        "…",
        "'so'",
        "1,000",
        "f(*a)",
    ]
)
SPACES = st.sampled_from([" ", "  ", "\n", "\n\n", "\n- ", ", ", ". ", "\n> ", "", "\n```\n"])


@st.composite
def texts(draw: st.DrawFn) -> str:
    return "".join(draw(WORDS) + draw(SPACES) for _ in range(draw(st.integers(0, 12))))


def letters(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFC", text).casefold() if letter.isalnum())


def signs(text: str) -> str:
    """What changes a number or a word if it is lost."""
    return "".join(letter for letter in text if letter in "+%€$/:^=()")


@settings(max_examples=1500, deadline=None)
@given(texts(), texts())
def test_nothing_is_found_that_is_not_there(text: str, quote: str) -> None:
    place = Source(text).find(quote)
    if place is None:
        return
    found = text[slice(*place)]
    assert letters(found) == letters(quote)
    assert signs(stripped(found)) == signs(stripped(quote))
    before, after = text[: place[0]][-1:], text[place[1] :][:1]
    for outer, inner in ((before, found[0]), (after, found[-1])):
        spaced = all(letter.isalnum() and letter < "\u0e00" for letter in (outer or " ", inner))
        assert not spaced, "it ends inside a word"


@settings(max_examples=800, deadline=None)
@given(texts(), texts(), texts(), st.sampled_from([" ", "\n", "  "]), st.sampled_from(["", "“", "…", " '"]))
def test_every_piece_of_whole_words_is_found(before: str, middle: str, after: str, space: str, sign: str) -> None:
    text = f"{before} because {middle} therefore {after}"
    quote = space.join(f"because {middle} therefore".split())
    place = Source(text).find(f"{sign}{quote}{sign}")
    assert place is not None
    assert text[slice(*place)].split() == quote.split()


@settings(max_examples=300, deadline=None)
@given(texts(), st.lists(st.sampled_from(["one", "two", "three", "four", "5"]), min_size=3, max_size=8), st.data())
def test_emphasis_that_a_model_leaves_out_is_no_difference(before: str, words: list[str], data: st.DataObject) -> None:
    marks = [data.draw(st.sampled_from(["", "*", "**", "***", "_", "`", "~~"])) for _ in words]
    marked = " ".join(f"{mark}{word}{mark}" for mark, word in zip(marks, words, strict=True))
    assume("`" not in before)
    assume("*" not in before.rpartition("\n")[2])
    assert Source(f"{before}\nbecause {marked} therefore").find(f"because {' '.join(words)} therefore") is not None


@given(st.text(max_size=200), st.text(max_size=50))
@settings(max_examples=500, deadline=None)
def test_any_two_texts_can_be_compared(text: str, quote: str) -> None:
    place = Source(text).find(quote)
    assert place is None or 0 <= place[0] < place[1] <= len(text)
