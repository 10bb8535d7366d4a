"""`partsong models PROVIDER` lists what an endpoint has, with windows and prices, from a real server on loopback."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.cli.test_cli import code_of
from tests.upstream import Reply, Server

LIST = b'{"object": "list", "data": [{"id": "big"}, {"id": "small/one"}, {"id": "\\u001b[31mred"}]}'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def listed(folder: Path, *replies: Reply, key: str = "") -> tuple[int | None, str, str]:
    """The exit code of the command, and what it has said on standard output and standard error."""
    async with Server(*replies) as server:
        text = f'[providers.lab]\napi = "openai"\nbase_url = "{server.url}/v1"\n{key}'
        text += (
            '[models."lab:big"]\nwindow = 128000\ninput_dollars_per_million = 2.50\noutput_dollars_per_million = 10\n'
        )
        (folder / "partsong.toml").write_text(text, encoding="utf-8")
        command = (sys.executable, "-m", "partsong", "models", "lab")
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=PIPE, stderr=PIPE)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


async def test_models_are_listed_with_window_and_price(folder: Path) -> None:
    code, out, _ = await listed(folder, Reply(LIST))
    assert code == 0
    head, *rows = out.splitlines()
    assert head.split() == ["model", "window", "input", "$/M", "output", "$/M"]
    assert [row.split() for row in rows] == [["lab:big", "128,000", "2.5", "10"], ["lab:small/one"]]


async def test_a_refused_key_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", "sk-secret-1234567890")
    refused = Reply(b'{"error": {"message": "Incorrect API key provided: sk-secret-1234567890"}}', status=401)
    code, _, told = await listed(folder, refused, key='key_env = "LAB_KEY"\n')
    assert code == 1
    assert "lab: HTTP 401" in told
    assert "the key is in the environment variable LAB_KEY" in told
    assert "sk-secret-1234567890" not in told


async def test_a_refused_key_of_a_seat_is_told_with_its_place_and_where_keys_are_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_KEY", "sk-secret-1234567890")
    refused = Reply(b'{"error": {"message": "Incorrect API key provided: sk-secret-1234567890"}}', status=401)
    async with Server(refused) as server:
        text = f'[providers.lab]\napi = "openai"\nbase_url = "{server.url}/v1"\nkey_env = "LAB_KEY"\n'
        text += 'key_page = "https://lab.example/keys"\n'
        (folder / "partsong.toml").write_text(text, encoding="utf-8")
        command = (sys.executable, "-m", "partsong", "ask", "--model", "lab:big", "Is it so?")
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=PIPE, stderr=PIPE)
        said = b"".join(await process.communicate()).decode()
    assert "HTTP 401 Unauthorized: Incorrect API key provided: [key]" in said
    told = " ".join(said.split())  # a long line may be wrapped
    assert "the key is in the environment variable LAB_KEY; https://lab.example/keys gives keys" in told
    assert "sk-secret" not in said


def test_an_unknown_provider_is_told_with_the_nearest_one(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of("models", "openruoter") == 2
    assert 'did you mean "openrouter"' in capfd.readouterr().err
    assert code_of("models", "scripted") == 2
    assert "scripted: has no list of models" in capfd.readouterr().err
