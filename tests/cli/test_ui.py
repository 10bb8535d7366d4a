"""`partsong ui` as a user runs it: a process of its own, and a program in the browser's place."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.serving import recipe_file


def test_the_page_is_opened_once_it_is_there(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}.part" && mv "{opened}.part" "{opened}"\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "partsong", "ui", "--port", "0", "--recipe", recipe_file(tmp_path)]
    environment = os.environ | {"PARTSONG_STATE": str(tmp_path / "state"), "BROWSER": str(browser)}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment, cwd=tmp_path) as process:
        try:
            while not opened.exists():
                assert process.poll() is None
                time.sleep(0.02)
            url = opened.read_text().strip()
            url, _, code = url.partition("/#/owner/")
            assert url.startswith("http://127.0.0.1:")
            assert len(code) >= 32
            started = Path(f"/proc/{process.pid}/environ")
            if started.exists():  # Linux: whoever reads the environment of the server does not learn the code
                assert code not in started.read_text(errors="replace")
            with urllib.request.urlopen(url) as response:
                assert b"<title>partsong</title>" in response.read()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
