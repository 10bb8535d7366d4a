"""Who speaks, in words: for the formats that have no field for the name of one who takes part in a conversation."""

from msgspec.structs import replace

from partsong.model import Document, Image, Message, Text


def spelled(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages with their speakers' names in front of what they say or show."""
    return tuple(_spelled(message) if message.name else message for message in messages)


def _spelled(message: Message) -> Message:
    named = f"{message.name}: "
    for at, part in enumerate(message.parts):
        if type(part) is Text:
            parts = (*message.parts[:at], replace(part, text=named + part.text), *message.parts[at + 1 :])
            return Message(message.role, parts)
        if type(part) is Image or type(part) is Document:
            return Message(message.role, (*message.parts[:at], Text(named), *message.parts[at:]))
    return Message(message.role, message.parts)
