"""The tables [tools.NAME] of the configuration."""

from pathlib import Path

import pytest

from partsong.configuration import ToolServer, read_configuration
from partsong.errors import ConfigurationError


def configured(folder: Path, text: str) -> dict[str, ToolServer]:
    path = folder / "partsong.toml"
    path.write_text(text)
    return read_configuration(path).tools


def test_a_table_names_a_server(tmp_path: Path) -> None:
    text = (
        '[tools.web]\nurl = "https://example.org/mcp"\nkey_env = "WEB_KEY"\nallow = ["search"]\ndollars_per_call = 0.01'
    )
    (server,) = configured(tmp_path, text).values()
    assert (server.url, server.key_env, server.allow, str(server.dollars_per_call)) == (
        "https://example.org/mcp",
        "WEB_KEY",
        ("search",),
        "0.01",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tools.web]", "give either command"),
        ('[tools.web]\nurl = "http://a"\ncommand = ["a"]', "give either command"),
        ('[tools.web]\ncommand = [""]', "must begin with a program"),
        ('[tools.web]\nurl = "file:///etc"', "must begin with http:// or https://"),
        ('[tools.web]\nurl = "http://a"\nkey_env = "sk-0123456789abcdef0123"', "never a key itself"),
        ('[tools.web]\nurl = "http://a"\ndeadline = 0', "deadline is 0"),
        ('[tools.web]\nurl = "http://a"\nlongest_result = 1', "longest_result is 1"),
        ('[tools.web]\nurl = "http://a"\ndollars_per_call = -1', "dollars_per_call is -1"),
        ('[tools.a__b]\nurl = "http://a"', 'tools."a__b"'),
        (f'[tools.{"a" * 33}]\nurl = "http://a"', "at most 32 letters"),
        ('[tools.web]\nurl = "http://a"\nallowed = []', "allowed"),
    ],
)
def test_a_wrong_table_is_refused_with_its_field(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match="tools") as refused:
        configured(tmp_path, text)
    assert told in str(refused.value)
    assert "0123456789abcdef0123" not in str(refused.value)
