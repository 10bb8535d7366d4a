"""The wheel alone is the whole program: with the page, the recipes and the instructions, and away from the checkout."""

import os
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.server.test_serve import served

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        if "hatchling" in built.stderr:
            pytest.skip("hatchling cannot be fetched here, so no wheel is built")
        pytest.fail(built.stderr)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder with what the wheel brings, and nothing of the checkout."""
    folder = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


def partsong_of(installed: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    home = {"HOME": str(folder), "PARTSONG_STATE": str(folder / "state"), "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, "-m", "partsong", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **home},
        timeout=120,
    )


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if name.startswith("partsong/")}
    source = ROOT / "src"
    tracked = subprocess.run(["git", "ls-files", "src/partsong"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode == 0 and tracked.stdout:
        expected = {name.removeprefix("src/") for name in tracked.stdout.splitlines() if (ROOT / name).is_file()}
    else:
        expected = {
            str(path.relative_to(source))
            for path in source.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    assert expected <= names
    assert {"partsong/py.typed", "partsong/server/page/index.html"} <= names
    assert not [name for name in names if "/tests/" in name or name.endswith(".pyc")]


def test_it_works_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = "import partsong, sys; print(partsong.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith(str(installed))
    assert partsong_of(installed, "--version", folder=tmp_path).stdout.split()[-1] == PROJECT["version"]
    asked = partsong_of(installed, "ask", "--model", "scripted:a?text=It+is+so", "Is it so?", folder=tmp_path)
    assert (asked.returncode, asked.stdout) == (0, "It is so\n"), asked.stderr
    assert "moa" in partsong_of(installed, "recipes", folder=tmp_path).stdout
    assert partsong_of(installed, "recipes", "moa-lite", folder=tmp_path).stdout.startswith("#")
    assert partsong_of(installed, "show", "last", folder=tmp_path).returncode == 0


def test_the_server_has_its_page(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    with served(tmp_path) as (_, url):
        for _ in range(200):
            try:
                page = urlopen(url, timeout=10).read()
                break
            except OSError:
                time.sleep(0.1)
        assert b"<title>" in page
        assert urlopen(f"{url}/healthz", timeout=10).status == 200
