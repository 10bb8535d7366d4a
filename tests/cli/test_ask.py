"""./ask and ./test on machines that are not ready: they say what is needed, and touch nothing else.

Copies of the two run with a PATH that holds a few standard tools and the Pythons that a test puts there.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "dirname", "cat", "cksum", "grep", "rm")
OLD = '#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit\necho 3.9\nexit 1\n'
WITHOUT_VENV = f'#!/bin/sh\ncase $* in *ensurepip*) exit 1 ;; esac\nexec "{sys.executable}" "$@"\n'
# Stands for a Python and for the environment that it makes: it notes what it was asked, and can be told to fail.
PRETENDED = f"""#!/bin/sh
case $* in
*"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "$PWD/.venv/bin/python" >.venv/bin/pip ;;
*"-m pip install"*)
    echo "installed $*" >>installs
    [ ! -e broken ] || exit 1
    printf '#!/bin/sh\\necho "answered: $*"\\n' >.venv/bin/partsong; chmod +x .venv/bin/partsong ;;
*"-m pip"*) ;;
*) exec "{sys.executable}" "$@" ;;
esac
"""


class Checkout:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a checkout"
        self.tools = folder / "bin"
        (self.folder / "scripts").mkdir(parents=True)
        self.tools.mkdir()
        for name in ("ask", "test", "scripts/environment.sh", "pyproject.toml"):
            shutil.copy(ROOT / name, self.folder / name)
        for name in (*TOOLS, "mkdir", "cp", "chmod"):
            found = shutil.which(name)
            assert found
            (self.tools / name).symlink_to(found)

    def put(self, name: str, script: str) -> None:
        (self.tools / name).write_text(script)
        (self.tools / name).chmod(0o755)

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "ask", *arguments],
            env={"PATH": str(self.tools)},
            cwd=self.folder,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )

    @property
    def installs(self) -> list[str]:
        file = self.folder / "installs"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_without_python(checkout: Checkout) -> None:
    done = checkout.ask("Why?")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed; there is no python3." in done.stderr
    assert done.stdout == ""


def test_with_an_old_python(checkout: Checkout) -> None:
    checkout.put("python3", OLD)
    assert "Python 3.11 or newer is needed; python3 is Python 3.9.2." in checkout.ask("Why?").stderr


def test_without_the_venv_module(checkout: Checkout) -> None:
    checkout.put("python3", WITHOUT_VENV)
    done = checkout.ask("Why?")
    assert done.returncode == 1
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"apt install python{version}-venv" in done.stderr


def test_a_newer_python_beside_an_old_one_is_found(checkout: Checkout) -> None:
    checkout.put("python3", OLD)
    checkout.put("python3.12", PRETENDED)
    assert checkout.ask("Why?").stdout == "answered: ask Why?\n"


def test_it_installs_once_and_again_when_the_project_file_changes(checkout: Checkout) -> None:
    checkout.put("python3", PRETENDED)
    first = checkout.ask("What is  this?", "--json")
    assert first.stdout == "answered: ask What is  this? --json\n"
    assert "installing what it needs" in first.stderr
    again = checkout.ask("Why?")
    assert (again.stdout, again.stderr) == ("answered: ask Why?\n", "")
    assert len(checkout.installs) == 1
    with (checkout.folder / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    checkout.ask("Why?")
    assert len(checkout.installs) == 2


def test_a_moved_checkout_and_a_python_that_is_gone_are_mended(checkout: Checkout) -> None:
    checkout.put("python3", PRETENDED)
    checkout.ask("Why?")
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    assert "making a virtual environment" in checkout.ask("Why?").stderr
    (checkout.folder / ".venv" / "bin" / "python").unlink()
    assert "making a virtual environment" in checkout.ask("Why?").stderr
    assert checkout.ask("Why?").stderr == ""


def test_a_failed_installation_is_tried_again(checkout: Checkout) -> None:
    checkout.put("python3", PRETENDED)
    (checkout.folder / "broken").touch()
    failed = checkout.ask("Why?")
    assert failed.returncode == 1
    assert "the installation failed" in failed.stderr
    (checkout.folder / "broken").unlink()
    assert checkout.ask("Why?").returncode == 0


def test_two_at_once_install_once(checkout: Checkout) -> None:
    checkout.put("python3", PRETENDED)
    both = [
        subprocess.Popen([checkout.folder / "ask", word], env={"PATH": str(checkout.tools)}, cwd=checkout.folder)
        for word in ("one", "two")
    ]
    assert [one.wait(60) for one in both] == [0, 0]
    assert len(checkout.installs) == 1
