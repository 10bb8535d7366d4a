"""Addresses of PostgreSQL databases, as `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`.

A message never shows the password or the options of an address, because both may be secrets.
"""

import re
from urllib.parse import unquote

SCHEMES = ("postgresql://", "postgres://")
FORM = "postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full"
_HOST = r"(?:\[[0-9A-Fa-f:.%]*\]|[^@:/?#\[\]\s]*)(?::\d{0,5})?"
_ADDRESS = re.compile(
    rf"postgres(?:ql)?://(?:(?P<user>[^:@/?#\s]*)(?::(?P<password>[^@/?#\s]*))?@)?(?P<hosts>{_HOST}(?:,{_HOST})*)"
    r"(?:/(?P<database>[^@/?#\s]*))?(?:\?(?P<options>[^#\s]*))?"
)
_SECRETS = re.compile(r"(?:^|&)(?:password|sslpassword)=([^&]*)")


def is_address(text: str) -> bool:
    """Whether the text means to be the address of a PostgreSQL database."""
    return text.startswith(SCHEMES)


def fault_of(address: str) -> str | None:
    """What is wrong with the form of an address, without its password; `None` if nothing is."""
    if _ADDRESS.fullmatch(address) is not None:
        return None
    return f"the address is not of the form {FORM}; in a user or password write @ as %40, : as %3A, / as %2F, # as %23"


def shown(address: str) -> str:
    """The address without its password and its options, as messages name the database."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return "postgresql://…"
    user = f"{found['user']}@" if found["user"] else ""
    database = f"/{found['database']}" if found["database"] else ""
    return f"postgresql://{user}{found['hosts']}{database}"


def without_secrets(text: str, address: str) -> str:
    """The text without the passwords of the address, in case that a message of the database repeats one."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return text
    written = [found["password"] or "", *_SECRETS.findall(found["options"] or "")]
    for secret in sorted({*written, *map(unquote, written)}, key=len, reverse=True):
        if secret:
            text = text.replace(secret, "…")
    return text
