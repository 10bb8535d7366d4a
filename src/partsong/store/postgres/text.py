"""Text as bytes and back. Every text has bytes: also one with NUL or with half a character."""


def packed(text: str) -> bytes:
    """The text in UTF-8. A lone surrogate becomes its three bytes."""
    return text.encode("utf-8", "surrogatepass")


def unpacked(data: bytes) -> str:
    """The text whose bytes `packed` made."""
    return bytes(data).decode("utf-8", "surrogatepass")
