"""Who may set the keys of providers: the page that `partsong ui` opened, and nobody else.

The address that `partsong ui` opens has a code. The page trades the code for a token, once, and shows the token with
each request that changes a key. The server is told only the digest of the code, so that its environment gives nothing
away. A code that others have seen, such as in a list of processes, is of no use after the page has opened.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping

from partsong.server.problems import ProblemError
from partsong.wire.reply import Problem

VARIABLE = "PARTSONG_OWNER"  # environment variable with the digest, from `partsong ui` to the server's process
HEADER = "x-partsong-owner"
LENGTH = 24  # bytes of a code and of a token


class Owner:
    """The page that may set keys, if there is one.

    digest: SHA-256 of the code in hexadecimal digits; "" (default) if no page may set keys
    """

    def __init__(self, digest: str = "") -> None:
        self._digest = digest
        self._token = ""

    @property
    def expected(self) -> bool:
        """Whether this server was started for a page that may set keys."""
        return bool(self._digest)

    def trade(self, code: str) -> str:
        """The token for the code. Raises `ProblemError` for a wrong code, and for one that was traded before."""
        if not self._digest or not secrets.compare_digest(digest_of(code), self._digest):
            raise _refused("this is not the address that partsong ui has opened")
        if self._token:
            raise _refused("this address was used before: end partsong ui and start it again")
        self._token = secrets.token_urlsafe(LENGTH)
        return self._token

    def is_shown(self, headers: Mapping[str, str]) -> bool:
        """Whether a request shows the token."""
        shown = headers.get(HEADER, "").encode()
        return bool(self._token) and secrets.compare_digest(shown, self._token.encode())

    def check(self, headers: Mapping[str, str]) -> None:
        """Raise `ProblemError` if a request does not show the token."""
        if not self.is_shown(headers):
            raise _refused("keys are set on the page that partsong ui opens, or by partsong keys set")


def new_code() -> tuple[str, str]:
    """A code for an address, and its digest for the server."""
    code = secrets.token_urlsafe(LENGTH)
    return code, digest_of(code)


def digest_of(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def told_owner() -> Owner:
    """The owner that `partsong ui` has told this process. The environment forgets it, so that no child has it."""
    return Owner(os.environ.pop(VARIABLE, ""))


def _refused(message: str) -> ProblemError:
    return ProblemError(Problem(403, "permission", message, "owner"))
