"""Keys of providers are kept for this user alone, go after the environment, and are never shown."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from partsong import provider_keys
from partsong.configuration import Provider, has_key, key_of
from partsong.errors import ConfigurationError

KEY = "sk-or-v1-0123456789abcdef"
LAB = Provider(api="openai", base_url="https://lab.example/v1", key_env="LAB_KEY")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("OPENROUTER_API_KEY", "LAB_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "partsong", "keys", *arguments]
    return subprocess.run(command, input=said, capture_output=True, text=True, timeout=60)


def test_a_kept_key_goes_after_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_key(LAB)
    with pytest.raises(ConfigurationError, match=r"LAB_KEY is not set \(partsong keys set lab keeps a key\)"):
        key_of("lab", LAB)
    provider_keys.keep("LAB_KEY", KEY)
    assert has_key(LAB)
    assert key_of("lab", LAB) == KEY
    monkeypatch.setenv("LAB_KEY", "another")
    assert key_of("lab", LAB) == "another"
    monkeypatch.delenv("LAB_KEY")
    assert provider_keys.forget("LAB_KEY")
    assert not provider_keys.forget("LAB_KEY")
    assert not has_key(LAB)


def test_the_file_is_this_users_alone() -> None:
    provider_keys.keep("A", KEY)
    path = provider_keys.keys_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    provider_keys.keep("B", "other")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert provider_keys.kept() == {"A": KEY, "B": "other"}


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "é", "\x1b[31m", "x" * 4097])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="this is no key") as caught:
        provider_keys.keep("LAB_KEY", key)
    assert not key or key not in str(caught.value)
    assert not provider_keys.keys_file().exists()


@pytest.mark.parametrize("text", [KEY, "[]", '{"LAB_KEY": 1}', "\udcff"])
def test_a_broken_file_is_named_and_not_quoted(text: str) -> None:
    path = provider_keys.keys_file()
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        key_of("lab", LAB)
    assert str(path) in str(caught.value)
    assert KEY not in str(caught.value)
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


def test_the_command_keeps_and_forgets(home: Path) -> None:
    done = keys("set", "openrouter", said=f"{KEY}\n")
    assert done.returncode == 0, done.stderr
    assert provider_keys.kept() == {"OPENROUTER_API_KEY": KEY}
    shown = keys("set", "openrouter", said=f"{KEY}\n").stderr + done.stdout + done.stderr
    listed = subprocess.run([sys.executable, "-m", "partsong", "models"], capture_output=True, text=True)
    assert "OPENROUTER_API_KEY: set" in listed.stdout
    assert KEY not in shown + listed.stdout + listed.stderr
    environment = {**os.environ, "OPENROUTER_API_KEY": "another"}
    command = [sys.executable, "-m", "partsong", "keys", "set", "openrouter"]
    told = subprocess.run(command, input=KEY, capture_output=True, text=True, env=environment).stderr
    assert "OPENROUTER_API_KEY is set too, and goes first" in told
    assert keys("unset", "openrouter").stderr == "partsong: openrouter: the key is forgotten\n"
    assert keys("unset", "openrouter").stderr == "partsong: openrouter: no key was kept\n"
    for wrong, words in (
        (["set"], "needs the name of a provider"),
        (["set", "openruoter"], 'did you mean "openrouter"'),
    ):
        assert words in keys(*wrong, said=KEY).stderr
    assert keys("set", "ollama", said=KEY).returncode == 2
    assert keys("set", "openrouter", said="").returncode == 2
