"""The rule that no test reaches the network is itself kept: in this process, and in commands that tests run."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.offline.sitecustomize import NetworkRefused


def test_a_name_is_not_looked_up() -> None:
    with pytest.raises(NetworkRefused, match=r"example\.org"):
        socket.getaddrinfo("example.org", 443)


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")])
def test_an_address_is_not_reached(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as one:
        with pytest.raises(NetworkRefused):
            one.connect((host, 443))
        with pytest.raises(NetworkRefused):
            one.bind(("0.0.0.0" if family == socket.AF_INET else "::", 0))


def test_this_machine_may_talk_to_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        one.sendall(b"hello")


def test_a_command_with_the_folder_in_its_path_is_held_to_it() -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 443))"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent / "offline")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "NetworkRefused" in done.stderr
