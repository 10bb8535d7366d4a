"""Writes the names of speakers (`Message.name`) into the messages, for APIs without a field for a name."""

from msgspec.structs import replace

from partsong.model import Document, Image, Message, Text


def spelled(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages without names; each name and a colon stand before the first text, image or document."""
    return tuple(_spelled(message) if message.name else message for message in messages)


def _spelled(message: Message) -> Message:
    named = f"{message.name}: "
    for index, part in enumerate(message.parts):
        if type(part) is Text:
            parts = (*message.parts[:index], replace(part, text=named + part.text), *message.parts[index + 1 :])
            return Message(message.role, parts)
        if type(part) is Image or type(part) is Document:
            return Message(message.role, (*message.parts[:index], Text(named), *message.parts[index:]))
    return Message(message.role, message.parts)
