"""A preflight that is refused has the shape of errors of its API, and the headers that a browser needs."""

from pathlib import Path

import aiohttp
import pytest

from partsong.configuration import Serving
from tests.serving import recipe_file, serving

PAGE = "https://page.example"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/chat/completions", lambda body: body["error"]["message"]),
        ("/v1/responses", lambda body: body["error"]["message"]),
        ("/v1/messages", lambda body: body["error"]["message"] if body["type"] == "error" else ""),
    ],
)
async def test_a_refused_preflight_is_json(tmp_path: Path, path: str, message: object) -> None:
    assert callable(message)
    async with (
        serving([recipe_file(tmp_path)], server=Serving(origins=(PAGE,))) as (url, _),
        aiohttp.ClientSession() as session,
    ):
        asked = {"origin": "https://other.example", "access-control-request-method": "POST"}
        async with session.options(url + path, headers=asked) as response:
            assert response.status == 400
            assert response.content_type == "application/json"
            assert response.headers["x-request-id"]
            assert "origin" in message(await response.json())
        async with session.options(url + path, headers=asked | {"origin": PAGE}) as response:
            assert response.status == 200
            assert response.headers["access-control-allow-origin"] == PAGE
        async with session.options(url + path, headers={"origin": PAGE}) as response:
            assert response.status == 405
            assert response.content_type == "application/json"
