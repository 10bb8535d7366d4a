"""What calls cost: prices of the user's, and those of the table."""

import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from partsong.assembly import pricing
from partsong.configuration import Configuration, ModelSettings, Provider
from partsong.middleware.price import fixed, listed
from partsong.model import Usage

OPENAI, ANTHROPIC = "https://api.openai.com/v1", "https://api.anthropic.com/v1"
USAGES = st.builds(
    Usage,
    *(st.integers(0, 10**6) for _ in range(4)),
    cache_write_tokens=st.integers(0, 10**6),
)


def test_each_kind_of_token_has_its_price() -> None:
    dollars = fixed(Decimal(10), Decimal(50), Decimal(1))
    assert dollars(Usage(1_000_000, 0)) == 10
    assert dollars(Usage(1_000_000, 0, cached_input_tokens=400_000)) == Decimal("6.4")
    assert dollars(Usage(1_000_000, 0, cache_write_tokens=400_000)) == 11
    assert dollars(Usage(0, 1_000_000, reasoning_tokens=900_000)) == 50
    assert fixed(Decimal(10), Decimal(50))(Usage(1_000_000, 0, cached_input_tokens=400_000)) == 10
    assert fixed(Decimal("0.1"), Decimal(0))(Usage(1, 0)) == Decimal("1e-7")


def test_the_table_knows_what_cached_and_written_tokens_cost() -> None:
    dollars = listed(ANTHROPIC, "claude-sonnet-4-5")
    plain, cached, written = (
        dollars(usage) for usage in (Usage(1000, 0), Usage(1000, 0, 1000), Usage(1000, 0, cache_write_tokens=1000))
    )
    assert plain is not None
    assert cached == plain / 10
    assert written == plain * Decimal("1.25")
    thought = listed(OPENAI, "gpt-5")
    assert thought(Usage(0, 1000, reasoning_tokens=900)) == thought(Usage(0, 1000)) != 0
    long = listed("https://generativelanguage.googleapis.com/v1beta/openai", "gemini-2.5-pro")
    below, above = long(Usage(200_000, 0)), long(Usage(200_001, 0))
    assert below is not None
    assert above is not None
    assert above > below * Decimal("1.9")


@pytest.mark.parametrize(
    "known", [lambda usage: listed(OPENAI, "gpt-5")(usage), fixed(Decimal("1.23456789"), Decimal(7), Decimal("0.1"))]
)
@given(usage=USAGES)
def test_a_price_is_never_less_than_nothing_nor_longer_than_12_decimals(
    known: Callable[[Usage], Decimal | None], usage: Usage
) -> None:
    dollars = known(usage)
    assert dollars is not None
    assert dollars >= 0
    exponent = dollars.as_tuple().exponent
    assert isinstance(exponent, int)
    assert exponent >= -12


def test_every_model_of_the_table_has_a_price_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    usages = (Usage(1000, 500), Usage(9, 5, 99, 99, cache_write_tokens=9), Usage(1000, 0, 400, cache_write_tokens=600))
    priced = unknown = 0
    for provider in get_snapshot().providers:
        for model in provider.models:

            def calc(tokens: genai_prices.Usage, *_: object, model: object = model, **__: object) -> object:
                return model.calc_price(tokens, provider)  # type: ignore[attr-defined]  # noqa: B023

            with monkeypatch.context() as patch:
                patch.setattr(genai_prices, "calc_price", calc)
                found = [listed(OPENAI, model.id)(usage) for usage in usages]
            priced += None not in found
            unknown += None in found
    assert priced > 1000
    assert unknown < priced // 5


def test_what_is_billed_otherwise_than_by_the_token_is_unknown() -> None:
    assert listed(OPENAI, "whisper-1")(Usage(10, 10)) is None
    assert listed(OPENAI, "text-embedding-3-small")(Usage(10, 10)) is None
    router = "https://openrouter.ai/api/v1"
    assert listed(router, "qwen/qwen3-coder:free")(Usage(10, 10)) == 0
    assert listed(router, "nobody/knows:free")(Usage(10, 10)) is None


def test_the_price_of_an_id_needs_no_key() -> None:
    configuration = Configuration(
        providers={"lab": Provider("openai", "http://127.0.0.1:9/v1", "LAB_KEY")},
        models={
            "lab:a": ModelSettings(None, Decimal(1), Decimal(2), Decimal("0.5")),
            "openai:gpt-5": ModelSettings(None, Decimal(7), Decimal(7)),
        },
    )
    usage = Usage(1_000_000, 1_000_000, cached_input_tokens=500_000)

    def dollars(name: str) -> Decimal | None:
        known = pricing(name, configuration)
        return None if known is None else known(usage)

    assert dollars("lab:a") == Decimal("2.75")
    assert dollars("lab:b") is None
    assert dollars("openai:gpt-5") == 14
    assert dollars("openai:gpt-4o") == Decimal("11.875")
    assert dollars("ollama:anything") == dollars("local:smollm2-135m") == 0
    assert dollars("scripted:a?input=3&output=4") == 7


def test_who_needs_no_list_price_does_not_pay_for_the_table() -> None:
    program = (
        "import asyncio, sys\n"
        "from decimal import Decimal\n"
        "from partsong import assemble\n"
        "from partsong.configuration import Configuration, ModelSettings\n"
        "known = Configuration(models={'openai:gpt-5': ModelSettings(1000, Decimal(1), Decimal(2))})\n"
        "async def main():\n"
        "    async with assemble(['openai:gpt-5', 'ollama:x', 'scripted:a'], known):\n"
        "        print('genai_prices' in sys.modules)\n"
        "asyncio.run(main())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"OPENAI_API_KEY": "k"}, check=False
    )
    assert (ran.stdout, ran.stderr) == ("False\n", "")
