"""A model behind any URL that speaks OpenAI's Chat Completions: streamed if somebody listens, else one plain call.

What compatible servers do not accept is one table: `CHAT` in `quirks`.
"""

from partsong.model import Answer, Request, Send
from partsong.providers.exchange import ask
from partsong.providers.http import Endpoint, Http, Told
from partsong.providers.quirks import CHAT, Quirks
from partsong.wire import chat


class OpenAI:
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
        """`told` hears what responses say about rate limits. Raises `ConfigurationError` for a wrong address or key."""
        self.name = name
        self.endpoint = Endpoint(http, provider, base_url, "chat/completions", _headers(key), key, told)
        self.quirks = Quirks(CHAT, name, f"{provider} {self.endpoint.host}")

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        return await ask(self.endpoint, chat, self.name, self.quirks, request, send)


async def reachable(http: Http, base_url: str, key: str | None = None) -> str | None:
    """What is wrong with an address or a key, asked by a GET of its list of models; `None` if nothing is.

    Raises `ConfigurationError` for an address or a key that cannot be one.
    """
    return await Endpoint(http, "base_url", base_url, "models", _headers(key), key).probe()


def _headers(key: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return headers
