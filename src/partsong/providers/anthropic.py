"""Models behind the Anthropic Messages API. An answer is streamed if there is a listener, and else fetched whole.

The table `MESSAGES` in `quirks` lists what newer models and compatible servers do not accept.
"""

from partsong.model import Answer, Request, Send
from partsong.providers import listing
from partsong.providers.exchange import ask
from partsong.providers.http import Endpoint, Http, Told
from partsong.providers.quirks import MESSAGES, Quirks
from partsong.wire import messages

VERSION = "2023-06-01"  # the API's latest version, sent in the header `anthropic-version`


class Anthropic:
    """The model `name` at `base_url`.

    quirks: what the model does not accept, as far as known; grows with the refusals of calls
    """

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
        """Prepare the model; nothing is sent.

        provider: the provider's name, for errors
        base_url: the API's address, with or without `/v1` at its end
        name: the model's name at the provider
        key: the API key; `None` (default) sends none
        told: receives the model's name and the rate limits in each response; `None` by default

        Raises `ConfigurationError` if the address is no URL or the key has characters that HTTP headers forbid.
        """
        self.name = name
        self.endpoint = Endpoint(http, provider, base_url, _path(base_url, "messages"), _headers(key), key, told)
        self.quirks = Quirks(MESSAGES, name, f"{provider} {self.endpoint.host}")

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        return await ask(self.endpoint, messages, self.name, self.quirks, request, send)


async def reachable(http: Http, base_url: str, key: str | None = None) -> str | None:
    """Return what is wrong with an address or key, or `None` if the endpoint answers `GET /v1/models` with status 200.

    Raises `ConfigurationError` if the address is no URL or the key has characters that HTTP headers forbid.
    """
    return await Endpoint(http, "base_url", base_url, _path(base_url, "models"), _headers(key), key).probe()


async def listed(http: Http, base_url: str, key: str | None = None) -> frozenset[str] | None:
    """The names of the endpoint's models; `None` if it has no list. Raises `ModelError` if the list cannot be read."""
    separator = "&" if "?" in base_url else "?"
    whole = f"{base_url}{separator}limit=1000"  # the API sends 20 unless it is asked for more
    return await listing.read(Endpoint(http, "base_url", whole, _path(base_url, "models"), _headers(key), key))


def _path(base_url: str, resource: str) -> str:
    """Return the path to append to `base_url`, with `v1/` unless `base_url` already ends in `/v1`."""
    versioned = base_url.partition("?")[0].rstrip("/").endswith("/v1")
    return resource if versioned else f"v1/{resource}"


def _headers(key: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "anthropic-version": VERSION}
    if key:
        headers["x-api-key"] = key
    return headers
