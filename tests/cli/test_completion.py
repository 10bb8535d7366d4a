"""`partsong completion`: what real shells offer when the tab key is pressed."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from partsong.cli.main import run

SHELLS = ("bash", "zsh", "fish")
HUNG = 60.0  # seconds; nothing is measured by it, it only ends a test that would hang

RECIPE = """
name = "choir"
about = "Two voices."
[[layers]]
[[layers.agents]]
model = "scripted:alto?text=A"
[aggregator]
model = "scripted:bass?text=B"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "choir.toml").write_text(RECIPE)
    (tmp_path / "broken.toml").write_text("name = [")
    return tmp_path


def offered(*words: str) -> dict[str, str]:
    """The candidates for the last word, each with its text, as a script of the shell asks for them."""
    command = [sys.executable, "-m", "partsong", "__complete", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    lines = done.stdout.partition("\x1fbegin\n")[2].splitlines()
    return {value: text for value, _, text in (line.partition("\t") for line in lines)}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_that_the_shell_can_read(shell: str, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("ask", "completion", "--recipe", "--max-dollars"):
        assert word in script
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not installed: its script was not tried")
    (folder / "script").write_text(script)
    subprocess.run([program, "-n", "script"], check=True, timeout=60)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(["completion", "tcsh"])
    assert left.value.code == 2
    assert 'Choose from: "bash", "zsh", "fish"' in capsys.readouterr().err


def test_recipes_models_providers_and_runs(folder: Path) -> None:
    recipes = offered("ask", "--recipe", "")
    assert {"local", "moa", "choir.toml", "broken.toml"} <= recipes.keys()
    assert "partsong.toml" not in recipes
    assert {"local:smollm2-135m", "openai:"} <= offered("ask", "--model", "").keys()
    assert "openrouter" in offered("models", "")
    assert offered("show", "").keys() == {"last"}
    command = [sys.executable, "-m", "partsong", "ask", "--recipe", "choir.toml", "Who\x1b[31m sings\tthere?"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    for words in (("show", ""), ("again", ""), ("replay", ""), ("analyse", ""), ("ask", "--continue", "")):
        found = offered(*words)
        assert len(found) == 2
        assert found.pop("last")
        assert "sings" in (text := next(iter(found.values())))
        assert "\x1b" not in text


def test_a_broken_configuration_or_recipe_offers_no_traceback(folder: Path) -> None:
    (folder / "partsong.toml").write_text("recipe = [")
    assert isinstance(offered("ask", "--model", ""), dict)
    assert "local" in offered("ask", "--recipe", "")


def test_bash_completes_a_model_id_with_its_colon(folder: Path) -> None:
    """The colon separates words in bash, so a candidate must not be written behind what stands there already."""
    if (bash := shutil.which("bash")) is None:
        pytest.skip("bash is not installed")
    program = folder / "partsong"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m partsong "$@"\n')
    program.chmod(0o755)
    script = subprocess.run([program, "completion", "bash"], capture_output=True, text=True, check=True, timeout=60)
    (folder / "script").write_text(script.stdout)
    pid, terminal = pty.fork()
    if pid == 0:
        environment = os.environ | {"PS1": "$ ", "TERM": "dumb", "PATH": f"{folder}:{os.environ['PATH']}"}
        os.execve(bash, [bash, "--norc", "--noprofile", "-i"], environment)
    seen = b""

    def until(text: bytes) -> None:
        nonlocal seen
        end = time.monotonic() + HUNG
        while text not in seen:
            assert time.monotonic() < end, seen
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 65536)

    try:
        os.write(terminal, b". ./script; echo rea''dy\n")
        until(b"ready")
        os.write(terminal, b"echo partsong > /dev/null; partsong ask --model local:smol\t")
        until(b"local:smollm2-135m")
        os.write(terminal, b"\x15partsong ask --recipe moa-l\t")
        until(b"--recipe moa-lite")
    finally:
        os.write(terminal, b"\x15exit\n")
        os.close(terminal)
        os.waitpid(pid, 0)
