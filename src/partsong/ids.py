"""The one rule for ids: what a text must be to name a model, a run, a response, a caller, or anything else.

An id is looked up, logged, printed and sent in headers. So an id has no character that a reader cannot see: no control
characters, no characters of direction or of no width, no separators of lines, and no half of a surrogate pair. Such
characters make two different ids look the same, or a line of a log look like two. Ids also have a length.
"""

import re
import unicodedata

from partsong.errors import RequestError

LONGEST_MODEL = 16_384  # bytes of a model's id: an id of a scripted model holds the whole answer
LONGEST_NAME = 128  # bytes of the name of a provider in the configuration
SHOWN = 60  # characters of a wrong id that a message repeats

# Letters without a glyph. Unicode calls them default ignorable, but no category has them all.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_KINDS = {
    "Cc": "the control character",
    "Cf": "the invisible character",
    "Cs": "half of a surrogate pair,",
    "Zl": "the line separator",
    "Zp": "the paragraph separator",
}
_PLAIN = re.compile(r"[a-z0-9._:/-]+")

# Which provider a model's bare name belongs to, so that an error can say what an id without provider should be: the
# beginnings of the names that vendors give to their own models.
VENDORS = {
    "openai": ("gpt-", "chatgpt-", "o1-", "o3-", "o4-", "codex-"),
    "anthropic": ("claude-",),
    "gemini": ("gemini-",),
    "xai": ("grok-",),
    "mistral": ("mistral-", "ministral-", "magistral-", "codestral-", "devstral-", "pixtral-"),
    "deepseek": ("deepseek-chat", "deepseek-reasoner"),
}
# Open models, which many hosts serve, each under names of its own. Ollama serves them under these.
OPEN = ("llama", "qwen", "gemma", "phi", "deepseek", "mistral", "mixtral", "smollm", "gpt-oss")


def fault(text: str, longest: int) -> str:
    """What is wrong with an id, as the end of a sentence; "" if nothing is wrong. No raw character is repeated.

    longest: most bytes of the id in UTF-8
    """
    if not text:
        return "is empty"
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > longest:
        return f"has {size:,} bytes, but may have at most {longest:,}"
    if text.isascii() and text.isprintable():
        return ""
    for place, letter in enumerate(text, 1):
        kind = _KINDS.get(unicodedata.category(letter), "the invisible character" if letter in _INVISIBLE else "")
        if kind:
            return f"has {kind} U+{ord(letter):04X} as character {place}; only characters that can be seen may be used"
    return ""


def shown(text: str) -> str:
    """A text for a message: without characters that cannot be seen, and not longer than some words."""
    short = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return "".join(letter if not fault(letter, 4) else f"\\u{ord(letter):04x}" for letter in short)


def check(text: str, field: str, longest: int) -> None:
    """Refuse a wrong id of a request. Raises `RequestError`, which names the field.

    field: path of the field in the request, or the name of a part of the path, such as `run`
    longest: most bytes of the id in UTF-8
    """
    if reason := fault(text, longest):
        raise RequestError(f"{field} {reason}", field)


def suggested(name: str) -> str:
    """The text `; did you mean "provider:model"?` for a model's name without provider; "" if no provider is known.

    name: what was given as a model id, without a colon or with a colon that belongs to the name, such as `qwen3:8b`
    """
    provider = provider_of(name)
    return f'; did you mean "{provider}:{name}"?' if provider else ""


def provider_of(name: str) -> str | None:
    """The provider that is most likely meant by a model's name without provider; `None` if nothing speaks for one."""
    folded = name.lower()
    if len(name) > SHOWN or not _PLAIN.fullmatch(folded):
        return None
    if "/" in folded.strip("/"):  # vendor/model, the form of the ids of OpenRouter
        return "openrouter" if folded.count("/") == 1 and not folded.endswith((".toml", "/")) else None
    if not folded.startswith("gpt-oss"):
        for provider, beginnings in VENDORS.items():
            if f"{folded}-".startswith(beginnings):
                return provider
    return "ollama" if folded.startswith(OPEN) else None
