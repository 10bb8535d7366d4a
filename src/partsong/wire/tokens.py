"""How many tokens a request has, where no tokenizer is at hand: an estimate that errs high.

A token of English prose has 4 to 5 bytes, of code about 3, of Chinese or Hindi 2 to 4 in current vocabularies. So one
token for 3 bytes of UTF-8 is rarely too few. What a model can read is checked against the likelier 4 bytes, so that a
question is not refused that would have fitted.
"""

from partsong.model import Image, Message, Request, Text, ToolCall, ToolResult

BYTES_A_TOKEN = 3
LIKELY_BYTES_A_TOKEN = 4
TOKENS_AN_IMAGE = 1500  # what a picture of a million pixels costs with the large providers
TOKENS_A_MESSAGE = 4  # the marks around it


def estimate(text: str) -> int:
    """Tokens of a text, erring high."""
    return -(-_bytes(text) // BYTES_A_TOKEN)


def estimate_tokens(request: Request) -> int:
    """Input tokens of a request, erring high: messages, images and tool schemas."""
    return _tokens(request.messages, BYTES_A_TOKEN) + sum(
        estimate(tool.name + tool.description) + len(tool.parameters) // BYTES_A_TOKEN for tool in request.tools
    )


def likely_tokens(messages: tuple[Message, ...]) -> int:
    """Input tokens of messages, as likely too many as too few."""
    return _tokens(messages, LIKELY_BYTES_A_TOKEN)


def _tokens(messages: tuple[Message, ...], bytes_a_token: int) -> int:
    size = images = 0
    for message in messages:
        for part in message.parts:
            for piece in part.parts if isinstance(part, ToolResult) else (part,):
                if isinstance(piece, Text):
                    size += _bytes(piece.text)
                elif isinstance(piece, Image):
                    images += 1
                elif isinstance(piece, ToolCall):
                    size += _bytes(piece.name) + _bytes(piece.arguments)
    return -(-size // bytes_a_token) + TOKENS_AN_IMAGE * images + TOKENS_A_MESSAGE * len(messages)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
