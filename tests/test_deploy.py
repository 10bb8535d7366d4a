"""The files in `deploy/`, as far as they can be tried without a cluster: two servers on PostgreSQL, behind nginx.

The servers are started with the command and the environment of the container image, and the proxy with its own
configuration. Only addresses and folders are replaced.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from partsong.configuration import read_configuration
from tests.postgres import Cluster
from tests.serving import recipe_file

DEPLOY = Path(__file__).parent.parent / "deploy"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
SLOW = "scripted:z?tokens=40&each=0.1"


def containerfile() -> dict[str, str]:
    """The last instruction of each kind in the second stage of the image."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return dict(line.split(" ", 1) for line in text.rpartition("\nFROM")[2].splitlines() if re.match(r"[A-Z]+ ", line))


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def test_the_image_has_a_user_a_health_check_and_the_server() -> None:
    image = containerfile()
    assert image["USER"] == "10001"
    assert json.loads(image["ENTRYPOINT"]) == ["partsong"]
    assert json.loads(image["CMD"])[0] == "serve"
    assert "/healthz" in image["HEALTHCHECK"]
    extras = set(re.findall(r"\[([\w,]+)\]", image["RUN"])[0].split(","))
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert extras <= set(project["project"]["optional-dependencies"])


def test_compose_has_two_servers_with_a_read_only_root(tmp_path: Path) -> None:
    (compose,) = documents("compose.yaml")
    server = compose["services"]["server"]
    assert server["deploy"]["replicas"] == 2
    assert server["read_only"] is True
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).is_file()
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (DEPLOY / volume.partition(":")[0]).is_file()
    configuration = read_configuration(DEPLOY / "partsong.toml")
    assert configuration.database is not None
    # A run may end before the container is killed.
    assert float(server["stop_grace_period"].removesuffix("s")) > configuration.server.drain


def test_the_manifest_agrees_with_itself(tmp_path: Path) -> None:
    found = {document["kind"]: document for document in documents("kubernetes.yaml")}
    (tmp_path / "partsong.toml").write_text(found["ConfigMap"]["data"]["partsong.toml"], encoding="utf-8")
    configuration = read_configuration(tmp_path / "partsong.toml")
    assert configuration.database is not None
    pod = found["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    port = container["ports"][0]["containerPort"]
    assert str(port) in json.loads(containerfile()["CMD"])
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in probes.values()} == {port}
    assert (probes["livenessProbe"]["path"], probes["readinessProbe"]["path"]) == ("/healthz", "/readyz")
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > pause + configuration.server.drain
    assert found["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == port
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts, volumes = container["volumeMounts"], pod["spec"]["volumes"]
    assert {mount["name"] for mount in mounts} == {volume["name"] for volume in volumes}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def replica(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server with the command of the image, and its port."""
    folder.mkdir()
    shutil.copy(folder.parent / "partsong.toml", folder)
    port, image = free_port(), containerfile()
    told = dict(pair.split("=", 1) for pair in image["ENV"].split())
    environment = {name: value.replace("/var/lib/partsong", str(folder)) for name, value in told.items()}
    arguments = [*json.loads(image["ENTRYPOINT"]), *json.loads(image["CMD"])]
    command = [{"0.0.0.0": "127.0.0.1", "8080": str(port)}.get(each, each) for each in arguments]
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": str(DEPLOY.parent / "src")},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process, port
    finally:
        # A server that is killed leaves its worker behind, so the server is told to stop.
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def proxy(folder: Path, ports: list[int]) -> Iterator[str]:
    """nginx with the configuration of `deploy/`; its address."""
    assert NGINX is not None
    text, port = (DEPLOY / "nginx.conf").read_text(encoding="utf-8"), free_port()
    servers = "".join(f"server 127.0.0.1:{each} max_fails=1 fail_timeout=5s;\n" for each in ports)
    text = re.sub(r"server server:8080 resolve .*;", servers, text)
    text = re.sub(r"resolver .*", "", text).replace("listen 8080", f"listen 127.0.0.1:{port}")
    # Files that only root may write are put into the folder.
    own = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in TEMPORARY)
    text = text.replace("http {", f"http {{ access_log off; {own}", 1)
    (folder / "nginx.conf").write_text(f"pid {folder}/nginx.pid; error_log {folder}/error.log;\n" + text)
    command = [NGINX, "-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "error.log"), "-g", "daemon off;"]
    process = subprocess.Popen(command)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def ready(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                async with session.get(f"{url}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


@asynccontextmanager
async def streaming(session: aiohttp.ClientSession, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
    body = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": "Is it so?"}]}
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        assert response.status == 200, await response.text()
        yield response


@pytest.mark.skipif(
    NGINX is None, reason="nginx is not installed, so the proxy is not tested: apt-get install nginx-light"
)
async def test_two_servers_behind_the_proxy(postgres: Cluster, tmp_path: Path) -> None:
    address = postgres.database(f"deploy{uuid.uuid4().hex}")
    slow = recipe_file(tmp_path, aggregator=SLOW, name="slow")
    text = Path(slow).read_text(encoding="utf-8")
    Path(slow).write_text(text.replace('name = "three"', 'name = "slow"'), encoding="utf-8")
    (tmp_path / "partsong.toml").write_text(f'store = "{address}"\n[server]\nrecipes = ["{slow}"]\ndrain = 30\n')
    added = [sys.executable, "-m", "partsong", "keys", "add", "alice", "--config", str(tmp_path / "partsong.toml")]
    key = subprocess.run(added, capture_output=True, text=True, check=True).stdout.strip()
    headers = {"authorization": f"Bearer {key}"}
    with replica(tmp_path / "one") as (one, here), replica(tmp_path / "other") as (_, there):
        with proxy(tmp_path, [here, there]) as url:
            async with aiohttp.ClientSession(headers=headers) as session:
                await asyncio.gather(*(ready(session, f"http://127.0.0.1:{port}") for port in (here, there)))
                await ready(session, url)
                # A stream is passed on as it comes: 40 words in 4 seconds, and not all at the end.
                async with streaming(session, url) as response:
                    await response.content.readline()
                    began = time.monotonic()
                    await response.read()
                    assert time.monotonic() - began > 2
                # A server that is told to stop ends its stream first; everybody else is served by the other.
                async with streaming(session, f"http://127.0.0.1:{here}") as response:
                    await response.content.readline()
                    one.terminate()
                    answers = [ask(session, url) for _ in range(6)]
                    assert await asyncio.gather(*answers) == [200] * 6
                    assert (await response.read()).endswith(b"data: [DONE]\n\n")
                assert await asyncio.to_thread(one.wait, 60) in (0, 128 + signal.SIGTERM)
                assert await asyncio.gather(*(ask(session, url) for _ in range(6))) == [200] * 6


async def ask(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(f"{url}/v1/models") as response:
        return response.status
