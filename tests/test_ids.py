"""The one rule for ids, wherever an id comes in: recipes, the configuration, the command line, and scripts."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong import ConfigurationError, RecipeError, ids
from partsong.assembly import assembling, pricing
from partsong.configuration import Configuration, read_configuration
from partsong.errors import RequestError
from partsong.providers.scripted import MOST, MOST_WORDS, Scripted, read_script
from partsong.recipe import Agent, single
from partsong.recipes.finding import find_recipe, is_shipped, source_named
from partsong.weights import catalogue

SEEN = st.characters(exclude_categories=["C", "Z", "M"], exclude_characters="\u115f\u1160\u2800\u3164\uffa0")
UNSEEN = st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])


@given(st.text(SEEN, min_size=1, max_size=50))
def test_what_can_be_seen_is_an_id(text: str) -> None:
    assert ids.fault(text, 1000) == ""
    assert ids.shown(text) == text


@given(st.text(SEEN, max_size=20), UNSEEN, st.text(SEEN, max_size=20))
def test_what_cannot_be_seen_is_none(before: str, letter: str, after: str) -> None:
    text = before + letter + after
    told = ids.fault(text, 1000)
    assert f"U+{ord(letter):04X} as character {len(before) + 1};" in told
    assert letter not in told
    assert letter not in ids.shown(text)
    with pytest.raises(RequestError, match=r"^here has ") as caught:
        ids.check(text, "here", 1000)
    assert caught.value.field == "here"
    with pytest.raises(ValueError, match="which has"):
        Agent(f"scripted:{text}")
    with pytest.raises(RecipeError, match="which has"):
        single(f"scripted:{text}")
    with pytest.raises(ConfigurationError, match="has "):
        pricing(f"scripted:{text}", Configuration())


@given(st.text(max_size=200))
def test_a_message_never_has_what_cannot_be_seen(text: str) -> None:
    told = ids.shown(text)
    assert len(told) <= 7 * (ids.SHOWN + 1)
    assert not any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in told)


def test_ids_have_a_length_in_bytes() -> None:
    assert ids.fault("", 5) == "is empty"
    assert ids.fault("éé", 4) == ""
    assert ids.fault("ééé", 4) == "has 6 bytes, but may have at most 4"
    assert Agent("scripted:" + "x" * (ids.LONGEST_MODEL - 9)).model
    with pytest.raises(ValueError, match="at most 16,384"):
        Agent("scripted:" + "x" * ids.LONGEST_MODEL)


@pytest.mark.parametrize("table", ["providers", "models"])
def test_the_configuration_names_nothing_that_cannot_be_seen(tmp_path: Path, table: str) -> None:
    path = tmp_path / "partsong.toml"
    path.write_text(f'[{table}."scripted:a\\u202e"]\napi = "scripted"\n')
    with pytest.raises(ConfigurationError, match=rf'{table}\."scripted:a\\u202e": the name has') as caught:
        read_configuration(path)
    assert "\u202e" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../recipes/moa", "./moa", "moa/", "moa\0", "/etc/passwd", "x" * 5000, "", "..", "MOA"]
)
def test_a_name_is_no_path(name: str) -> None:
    assert not is_shipped(name)
    assert source_named(name) == name
    if "/" not in name:
        with pytest.raises(RecipeError, match="there is no recipe"):
            find_recipe(name)


def test_odd_paths_of_weights_are_errors_in_words() -> None:
    with pytest.raises(ConfigurationError, match="no home folder"):
        catalogue.find("~nobody-of-this-name/x.gguf")
    assert isinstance(catalogue.find("owner/" + "x" * 300 + "/file.gguf"), catalogue.Entry)


WRONG = [
    "nan",
    "NaN",
    "inf",
    "-inf",
    "Infinity",
    "-1",
    "-0.1",
    "1e308",
    "1e99",
    "9" * 5000,
    "1e-999999",
    "true",
    "True",
    "",
]
WRONG += [" 1", "1 ", "1_0", "0x10", "٣", "1,5", "--1", "1e", "sNaN"]


@pytest.mark.parametrize("field", MOST)
@pytest.mark.parametrize("value", WRONG)
async def test_numbers_of_a_script_are_finite_and_bounded(field: str, value: str) -> None:
    name = f"x?{field}={value}"
    with pytest.raises(
        ConfigurationError, match=rf'{field} is ".*", but must be a( whole)? number, not below 0 and not'
    ):
        read_script(name[2:], name)
    async with assembling(Configuration()) as assembly:
        with pytest.raises(ConfigurationError):
            assembly.check([f"scripted:{name}"])


@pytest.mark.parametrize("field", MOST)
def test_the_highest_number_is_allowed_and_the_next_is_not(field: str) -> None:
    assert getattr(read_script(f"{field}={MOST[field]}", "x"), field) == MOST[field]
    with pytest.raises(ConfigurationError, match=f"not above {MOST[field]:,}"):
        read_script(f"{field}={MOST[field] + 1}", "x")


@given(st.sampled_from(sorted(MOST)), st.text(max_size=30) | st.floats().map(str) | st.integers().map(str))
def test_any_text_is_a_number_within_its_bounds_or_refused(field: str, value: str) -> None:
    try:
        script = read_script(f"{field}={value}", "x")
    except ConfigurationError:
        return
    assert 0 <= getattr(script, field) <= MOST[field]


def test_a_long_text_is_few_words() -> None:
    from partsong import Message, Request, Text

    words = " ".join(["a"] * (MOST_WORDS + 50))
    model = Scripted("x?echo=1")
    request = Request((Message("user", (Text(words),)),))
    said = model.words(request, model.dice(request))
    assert len(said) == MOST_WORDS + 1 == model.length(request)
    assert "".join(said) == words


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gpt-5.1", "openai"),
        ("GPT-4o", "openai"),
        ("o3", "openai"),
        ("o4-mini", "openai"),
        ("claude-sonnet-4-5", "anthropic"),
        ("gemini-2.5-pro", "gemini"),
        ("grok-4", "xai"),
        ("codestral-latest", "mistral"),
        ("deepseek-chat", "deepseek"),
        ("deepseek-r1:8b", "ollama"),
        ("gpt-oss:20b", "ollama"),
        ("qwen3:8b", "ollama"),
        ("Qwen/Qwen3-32B", "openrouter"),
        ("o35", None),
        ("house", None),
        ("recipes/mine.toml", None),
        ("a/b/c", None),
        ("gpt 5", None),
        ("gpt-\u202e5", None),
        ("gpt-" + "5" * 100, None),
        ("", None),
    ],
)
def test_the_provider_of_a_bare_name_is_guessed(name: str, meant: str | None) -> None:
    assert ids.provider_of(name) == meant
    told = f'; did you mean "{meant}:{name}"?' if meant else ""
    assert ids.suggested(name) == told
    if name and ":" not in name and not ids.fault(name, 100):
        with pytest.raises(RecipeError) as wrong:
            single(name)
        assert str(wrong.value).endswith(f'"provider:model"{told}')
        with pytest.raises(ConfigurationError) as unknown:
            pricing(name, Configuration())
        assert str(unknown.value).endswith(f'"provider:model"{told}')


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gpt-5", "; one model alone: --model openai:gpt-5)"),
        ("lab:small", "; one model alone: --model lab:small)"),
        ("mine", "(a file ends in .toml)"),
        ("x:\u202e", "(a file ends in .toml)"),
    ],
)
def test_a_model_in_the_place_of_a_recipe_is_told_apart(name: str, told: str) -> None:
    with pytest.raises(RecipeError) as wrong:
        find_recipe(name)
    assert str(wrong.value).endswith(told)


def test_a_tag_of_ollama_is_no_provider() -> None:
    with pytest.raises(ConfigurationError, match=r'did you mean "ollama:qwen3:8b"'):
        pricing("qwen3:8b", Configuration())
