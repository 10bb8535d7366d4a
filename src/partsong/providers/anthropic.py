"""A model behind the Anthropic Messages API: streamed if somebody listens, else one plain call.

What newer models, or servers that imitate the API, do not accept is one table: `MESSAGES` in `quirks`.
"""

from partsong.model import Answer, Request, Send
from partsong.providers.exchange import ask
from partsong.providers.http import Endpoint, Http, Told
from partsong.providers.quirks import MESSAGES, Quirks
from partsong.wire import messages

VERSION = "2023-06-01"  # of the API; there has been no later one


class Anthropic:
    """The model `name` at `base_url`. `quirks` is what is known so far of what it does not accept."""

    def __init__(
        self,
        http: Http,
        *,
        provider: str,
        base_url: str,
        name: str,
        key: str | None = None,
        told: Told | None = None,
    ) -> None:
        """`base_url` may end in /v1 or not, and `told` hears what responses say about rate limits.

        Raises `ConfigurationError` for an address or a key that cannot be one.
        """
        self.name = name
        self.endpoint = Endpoint(http, provider, base_url, _path(base_url, "messages"), _headers(key), key, told)
        self.quirks = Quirks(MESSAGES, name, f"{provider} {self.endpoint.host}")

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        return await ask(self.endpoint, messages, self.name, self.quirks, request, send)


async def reachable(http: Http, base_url: str, key: str | None = None) -> str | None:
    """What is wrong with an address or a key, asked by a GET of its list of models; `None` if nothing is.

    Raises `ConfigurationError` for an address or a key that cannot be one.
    """
    return await Endpoint(http, "base_url", base_url, _path(base_url, "models"), _headers(key), key).probe()


def _path(base_url: str, resource: str) -> str:
    """What comes after `base_url`: people write it with the version, and without."""
    versioned = base_url.partition("?")[0].rstrip("/").endswith("/v1")
    return resource if versioned else f"v1/{resource}"


def _headers(key: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "anthropic-version": VERSION}
    if key:
        headers["x-api-key"] = key
    return headers
