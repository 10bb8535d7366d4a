"""The files of the web page: modules and style sheets of the package, served as they are, without a build step.

The content-security-policy lets the page load files of its own server only, and connect to no other server. The policy
forbids inline scripts, so that text of a model cannot run even if a fault makes it part of the page.
"""

import gzip
import hashlib
from dataclasses import dataclass, field
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.server.problems import ProblemError
from partsong.wire.reply import Problem

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
PACKED = ".gz"  # the largest library is stored compressed, as it is sent


@dataclass(frozen=True, slots=True)
class Asset:
    """One file.

    body: content of the file, compressed if `packed`
    kind: media type
    tag: value of the header `ETag`
    packed: whether `body` is compressed by gzip
    """

    body: bytes
    kind: str
    tag: str
    packed: bool = False


@dataclass(slots=True)
class Assets:
    """The files of the web page. Each file is read at its first request, and then kept in `known` by its path."""

    known: dict[str, Asset] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        return [Route("/", self.index, methods=["GET"]), Route("/page/{file:path}", self.file, methods=["GET"])]

    async def index(self, request: Request) -> Response:
        return self.answer(request, "index.html")

    async def file(self, request: Request) -> Response:
        return self.answer(request, request.path_params["file"])

    def answer(self, request: Request, name: str) -> Response:
        """The response with the file, or with status 304 if the browser has the current version.

        Raises `ProblemError` if there is no such file.
        """
        asset = self.find(name)
        if asset is None:
            raise ProblemError(Problem(404, "not_found", f'the page has no file "{name}"'))
        headers = {
            "etag": asset.tag,
            "cache-control": "no-cache",  # the browser must ask each time: another version may run
            "content-security-policy": POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
        }
        if asset.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        body = asset.body
        if asset.packed:
            headers["vary"] = "accept-encoding"
            if "gzip" in request.headers.get("accept-encoding", ""):
                headers["content-encoding"] = "gzip"
            else:
                body = gzip.decompress(body)
        return Response(body, headers=headers, media_type=asset.kind)

    def find(self, name: str) -> Asset | None:
        if name not in self.known:
            found = _read(name)
            if found is None:
                return None  # not remembered, since clients can ask for any number of names
            self.known[name] = found
        return self.known[name]


def _read(name: str) -> Asset | None:
    steps = name.split("/")
    kind = KINDS.get(name.rpartition(".")[2])
    if kind is None or any(step in ("", ".", "..") or "\\" in step or "\0" in step for step in steps):
        return None
    folder = resources.files("partsong.server") / "page"
    for suffix in ("", PACKED):
        file = folder.joinpath(*steps[:-1], steps[-1] + suffix)
        if file.is_file():
            body = file.read_bytes()
            return Asset(body, kind, f'"{hashlib.sha256(body).hexdigest()[:20]}"', bool(suffix))
    return None
