"""Estimates of the tokens of a request, for models without a tokenizer here. Estimates err high to protect budgets.

The estimate counts kinds of bytes:

- Five lower-case letters or spaces are two tokens.
- Every other ASCII character is one token, since many vocabularies split numbers into digits.
- Any other character is one token less than its bytes in UTF-8.
- A character from U+1000 to U+2FFF, or an emoji, is as many tokens as its bytes, since many vocabularies lack it.

Compared with five vocabularies of 2023 to 2025, the estimate is 1.9 to 2.4 times the tokens of English prose. The
factor is 1.1 to 2.7 for code, 1 to 3 for digits, and 1 to 2.7 for emoji. For Chinese, Japanese and Korean it is 1.2
to 3.3. Only random text (letters, hashes, rare characters) can have more tokens than estimated, by up to two fifths.

A model's window is checked with the likelier 4 bytes a token, so that no question is refused that would have fitted.
"""

from partsong.model import Document, Image, Message, Part, Reasoning, Request, Text, ToolCall, ToolResult

BYTES_A_TOKEN = 2  # errs high; for text of which only the length is known
LIKELY_BYTES_A_TOKEN = 4
TOKENS_AN_IMAGE = 1500  # an image of a million pixels, at the large providers
MOST_TOKENS_AN_IMAGE = 5000  # an image at the highest resolution that providers read
TOKENS_A_MESSAGE = 4  # the special tokens around a message
TOKENS_WITH_TOOLS = 700  # the instructions for tools that a provider adds to the prompt

_CHEAP = b"abcdefghijklmnopqrstuvwxyz "
# The first UTF-8 bytes of those characters that count as one token less than their bytes.
_LETTERS_BEYOND = bytes(byte for byte in range(0xC2, 0xF0) if byte not in (0xE1, 0xE2))
_PIECE = 1 << 16  # characters counted at a time: a piece that fits the processor's cache is counted twice as fast


def estimate(text: str) -> int:
    """Return the estimated tokens of a text. The estimate errs high."""
    if len(text) <= _PIECE:
        return _weigh(text.encode("utf-8", "surrogatepass"))
    return sum(estimate(text[start : start + _PIECE]) for start in range(0, len(text), _PIECE))


def estimate_tokens(request: Request) -> int:
    """Return the estimated input tokens of messages, images, tools and response format. The estimate errs high."""
    tokens = sum(TOKENS_A_MESSAGE + sum(_most_tokens(part) for part in message.parts) for message in request.messages)
    if request.tools:
        tokens += TOKENS_WITH_TOOLS
        tokens += sum(estimate(tool.name + tool.description) + _weigh(tool.parameters) for tool in request.tools)
    return tokens + _weigh(request.response_format or b"")


def likely_tokens(messages: tuple[Message, ...]) -> int:
    """Return the estimated input tokens of messages, as likely too high as too low. Reasoning is not counted."""
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
            # A signature may hold more thoughts than the text shows, encrypted; four base64 letters are three bytes.
            return max(estimate(text), len(signature) // BYTES_A_TOKEN)
        case ToolCall(name=name, arguments=arguments):
            return estimate(name) + estimate(arguments)
        case ToolResult(parts=parts):
            return sum(_most_tokens(piece) for piece in parts)


def _pictures(document: Document) -> int:
    """Return the number of images that a provider reads for a document that is sent as a PDF: one for each page."""
    return document.pages if document.can_be_sent else 0


def _weigh(data: bytes) -> int:
    """Return the estimated tokens of UTF-8 bytes. `translate` deletes kinds of bytes in C, so that the rest counts."""
    dear = len(data.translate(None, _CHEAP))
    tokens = dear - (-2 * (len(data) - dear) // 5)
    return tokens if data.isascii() else tokens - (len(data) - len(data.translate(None, _LETTERS_BEYOND)))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
