"""What checks the page's JavaScript is installed once, and only where Node is; elsewhere ./test says what it skips."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "cat", "cksum", "cut", "uname", "mkdir")
TRIAL = """set -eu
root=$PWD
. "$root/scripts/environment.sh"
. "$root/scripts/javascript.sh"
prepare_javascript
printf '%s' "$unchecked"
"""
NPM = """#!/bin/sh
[ "$1" = ci ] || exit 0
[ -e offline ] && exit 1
mkdir -p node_modules
echo installed >>installs
"""


class Checkout:
    def __init__(self, folder: Path) -> None:
        self.folder, self.tools = folder / "a checkout", folder / "bin"
        (self.folder / "scripts").mkdir(parents=True)
        (self.folder / ".venv" / "bin").mkdir(parents=True)
        (self.folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
        self.tools.mkdir()
        for name in ("scripts/environment.sh", "scripts/javascript.sh", "package-lock.json"):
            shutil.copy(ROOT / name, self.folder / name)
        for name in TOOLS:
            found = shutil.which(name)
            assert found
            (self.tools / name).symlink_to(found)

    def put(self, name: str, script: str) -> None:
        (self.tools / name).write_text(script)
        (self.tools / name).chmod(0o755)

    def prepare(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Prepare the checks; the reason why they are skipped is on standard output."""
        return subprocess.run(
            ["sh", "-c", TRIAL],
            env={"PATH": str(self.tools), **environment},
            cwd=self.folder,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )

    @property
    def installs(self) -> int:
        file = self.folder / "installs"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    made.put("node", "#!/bin/sh\necho v20.1.0\n")
    made.put("npm", NPM)
    return made


def test_the_checks_are_installed_once_and_again_when_the_versions_change(checkout: Checkout) -> None:
    assert checkout.prepare().stdout == ""
    again = checkout.prepare()
    assert (again.returncode, again.stdout, again.stderr, checkout.installs) == (0, "", "", 1)
    with (checkout.folder / "package-lock.json").open("a") as file:
        file.write("\n")
    assert checkout.prepare().stdout == ""
    assert checkout.installs == 2


def test_without_node_or_with_an_old_one_the_checks_are_skipped(checkout: Checkout) -> None:
    checkout.put("node", "#!/bin/sh\necho v16.20.0\n")
    old = checkout.prepare()
    assert (old.returncode, old.stdout) == (0, "it needs Node 18 or newer; node is v16.20.0.")
    (checkout.tools / "node").unlink()
    missing = checkout.prepare()
    assert (missing.returncode, missing.stderr, checkout.installs) == (0, "", 0)
    assert missing.stdout.startswith("it needs Node and npm")


def test_a_failed_installation_skips_the_checks_and_is_tried_again(checkout: Checkout) -> None:
    (checkout.folder / "offline").touch()
    failed = checkout.prepare()
    assert failed.returncode == 0
    assert failed.stdout.startswith("npm could not install")
    (checkout.folder / "offline").unlink()
    assert checkout.prepare().stdout == ""
    assert checkout.installs == 1


def test_continuous_integration_does_not_skip_the_checks(checkout: Checkout) -> None:
    (checkout.folder / "offline").touch()
    failed = checkout.prepare(JAVASCRIPT_CHECKS="required")
    assert failed.returncode == 1
    assert "npm could not install" in failed.stderr
