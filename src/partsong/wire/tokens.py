"""Estimates of the tokens of a request, for models whose tokenizer is not at hand. They err high, because of money.

It counts by kinds of bytes. Small letters and spaces are five for two tokens; every other character of ASCII is a token
(many vocabularies split numbers into digits); a character beyond is a token less than its bytes in UTF-8, but as many
as its bytes where vocabularies often have none for it: signs and scripts from U+1000 to U+2FFF, and emoji. Against
five vocabularies of 2023 to 2025 that is 1.9 to 2.4 times the tokens of English prose, 1.1 to 2.7 times those of code,
1 to 3 of digits, 1.2 to 3.3 of Chinese, Japanese and Korean, 1 to 2.7 of emoji. Only what is random (letters, the
digits of a hash, rare characters) can have more tokens than it says, by up to two fifths.

A model's window is checked with the likelier 4 bytes a token, so that no question is refused that would have fitted.
"""

from partsong.model import Document, Image, Message, Part, Reasoning, Request, Text, ToolCall, ToolResult

BYTES_A_TOKEN = 2  # of words of which only the length is known
LIKELY_BYTES_A_TOKEN = 4
TOKENS_AN_IMAGE = 1500  # what a picture of a million pixels costs with the large providers
MOST_TOKENS_AN_IMAGE = 5000  # and one that they look at as closely as they can
TOKENS_A_MESSAGE = 4  # the marks around it
TOKENS_WITH_TOOLS = 700  # what providers tell a model about using tools

_CHEAP = b"abcdefghijklmnopqrstuvwxyz "
# The first bytes of characters that are counted as one token less than they have bytes.
_LETTERS_BEYOND = bytes(byte for byte in range(0xC2, 0xF0) if byte not in (0xE1, 0xE2))
_PIECE = 1 << 16  # characters: what fits the processor's cache is counted twice as fast


def estimate(text: str) -> int:
    """Tokens of a text; the estimate errs high."""
    if len(text) <= _PIECE:
        return _weigh(text.encode("utf-8", "surrogatepass"))
    return sum(estimate(text[start : start + _PIECE]) for start in range(0, len(text), _PIECE))


def estimate_tokens(request: Request) -> int:
    """Input tokens of a request, an estimate that errs high: messages, images, tools and the schema of the answer."""
    tokens = sum(TOKENS_A_MESSAGE + sum(_most_tokens(part) for part in message.parts) for message in request.messages)
    if request.tools:
        tokens += TOKENS_WITH_TOOLS
        tokens += sum(estimate(tool.name + tool.description) + _weigh(tool.parameters) for tool in request.tools)
    return tokens + _weigh(request.response_format or b"")


def likely_tokens(messages: tuple[Message, ...]) -> int:
    """Input tokens of messages, as likely too many as too few."""
    size = images = 0
    for message in messages:
        for part in message.parts:
            for piece in part.parts if isinstance(part, ToolResult) else (part,):
                if isinstance(piece, Text):
                    size += _bytes(piece.text)
                elif isinstance(piece, Image):
                    images += 1
                elif isinstance(piece, Document):
                    size += _bytes(piece.text) if piece.is_read else len(piece.data)
                    images += _pictures(piece)
                elif isinstance(piece, ToolCall):
                    size += _bytes(piece.name) + _bytes(piece.arguments)
    return -(-size // LIKELY_BYTES_A_TOKEN) + TOKENS_AN_IMAGE * images + TOKENS_A_MESSAGE * len(messages)


def _most_tokens(part: Part) -> int:
    match part:
        case Text(text=text):
            return estimate(text)
        case Image():
            return MOST_TOKENS_AN_IMAGE
        case Document(text=text):
            words = estimate(text) if part.is_read else len(part.data)
            return words + _pictures(part) * MOST_TOKENS_AN_IMAGE
        case Reasoning(text=text, signature=signature):
            # A signature may hold more thoughts than the text shows, enciphered; four of its letters are three bytes.
            return max(estimate(text), len(signature) // BYTES_A_TOKEN)
        case ToolCall(name=name, arguments=arguments):
            return estimate(name) + estimate(arguments)
        case ToolResult(parts=parts):
            return sum(_most_tokens(piece) for piece in parts)


def _pictures(document: Document) -> int:
    """The pictures that a provider makes of a PDF: one of each page, beside its text."""
    return document.pages if document.can_be_sent else 0


def _weigh(data: bytes) -> int:
    """Tokens of UTF-8, by deleting kinds of bytes at the speed of C and counting what is left."""
    dear = len(data.translate(None, _CHEAP))
    tokens = dear - (-2 * (len(data) - dear) // 5)
    return tokens if data.isascii() else tokens - (len(data) - len(data.translate(None, _LETTERS_BEYOND)))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
