"""Addresses of databases: what is accepted, and that no part of a password is ever shown."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.addresses import fault_of, is_address, shown, without_secrets
from partsong.configuration import Configuration, read_configuration
from partsong.errors import ConfigurationError

GOOD = [
    ("postgresql://", "postgresql://"),
    ("postgresql://db", "postgresql://db"),
    ("postgres://me:s3cr3t@db:5432/team?sslmode=verify-full", "postgresql://me@db:5432/team"),
    ("postgresql://me:s3cr3t@one:5432,two:5433/team", "postgresql://me@one:5432,two:5433/team"),
    ("postgresql://me@[::1]:5432/team?password=s3cr3t", "postgresql://me@[::1]:5432/team"),
    ("postgresql:///team?host=/run/postgresql", "postgresql:///team"),
    ("postgresql://me:s3cr%2Ft%40@/team", "postgresql://me@/team"),
]


@pytest.mark.parametrize(("address", "told"), GOOD)
def test_an_address_is_shown_without_its_secrets(address: str, told: str) -> None:
    assert is_address(address)
    assert fault_of(address) is None
    assert shown(address) == told
    assert Configuration(store=address).database == address
    assert "s3cr" not in repr(Configuration(store=address))


@given(st.text(st.characters(codec="utf-8", exclude_characters="{}"), min_size=1, max_size=12))
def test_no_password_is_shown_however_it_is_written(word: str) -> None:
    password = f"{{{word}}}"  # in braces, so that it is no part of anything else
    for written in (password, quote(password, safe=""), quote(password)):
        for address in (
            f"postgresql://me:{written}@db/team",
            f"postgresql://me@db/team?password={written}",
            f"postgresql://me:{written}@db:port/team",
        ):
            assert password not in shown(address)
            assert written not in shown(address)
            assert "{" not in shown(address)
            assert "{" not in (fault_of(address) or "")
            if fault_of(address) is None:
                said = without_secrets(f"password {password} or {written} is wrong", address)
                assert password not in said
                assert written not in said


@pytest.mark.parametrize(
    "store",
    ["postgresql://me:s3cr3t@db@more/team", "postgresql://me:s3/cr3t@db/team", "postgresql://db:s3cr3t/team",
     "mysql://me:s3cr3t@db/team", "me:s3cr3t@db", "postgresql:/me:s3cr3t@db/team", "postgresql://me:s3 cr3t@db/team"],
)  # fmt: skip
def test_a_wrong_address_is_an_error_that_says_nothing_of_it(store: str, tmp_path: Path) -> None:
    path = tmp_path / "partsong.toml"
    path.write_text(f'store = "{store}"\n')
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(path)
    assert str(path) in str(caught.value)
    assert "store" in str(caught.value)
    assert "s3" not in str(caught.value)


def test_the_store_is_a_mode_or_an_address_with_a_mode_beside_it() -> None:
    assert Configuration().mode == "full"
    assert Configuration(store="metadata").mode == "metadata"
    assert Configuration(store="off").database is None
    assert Configuration(store="postgresql://db/team").mode == "full"
    assert Configuration(store="postgresql://db/team", keep="metadata").mode == "metadata"
    with pytest.raises(ValueError, match="keep is for a store at a postgresql:// address"):
        Configuration(store="metadata", keep="full")
    with pytest.raises(ValueError, match='store is "most", but must be "full", "metadata", "off" or postgresql://'):
        Configuration(store="most")
