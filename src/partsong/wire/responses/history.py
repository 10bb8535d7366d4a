"""Serializes a conversation as input items, which `GET /responses/{id}/input_items` lists."""

import base64
from typing import Any

from partsong.model import Document, Image, Message, Part, Reasoning, Text, ToolCall, ToolResult
from partsong.wire.responses.serialize import PREFIXES, output_text, thought, tool_call


def serialize_messages(messages: tuple[Message, ...], run: str, freeform: frozenset[str]) -> list[dict[str, Any]]:
    """Return the input items of a response, oldest first.

    messages: the conversation that the response answered
    run: the run's id, from which the items' ids are made
    freeform: names of the tools that take free text
    """
    items: list[dict[str, Any]] = []
    for message in messages:
        spoken: list[Part] = []
        for part in message.parts:
            if isinstance(part, Text | Image | Document):
                spoken.append(part)
                continue
            _close(items, message, spoken, run)
            items.append(_item(part, run, len(items), freeform))
        _close(items, message, spoken, run)
    return items


def _close(items: list[dict[str, Any]], message: Message, spoken: list[Part], run: str) -> None:
    """Append an item with the text, images and files in `spoken`, and clear `spoken`; nothing if it is empty."""
    if not spoken:
        return
    role = "user" if message.role == "tool" else message.role
    content = [_content(part, role == "assistant") for part in spoken]
    head = {"type": "message", "id": f"msg_{run}_in{len(items)}", "status": "completed", "role": role}
    items.append(head | {"content": content})
    spoken.clear()


def _item(part: Part, run: str, index: int, freeform: frozenset[str]) -> dict[str, Any]:
    match part:
        case Reasoning(text=text):
            return thought(f"rs_{run}_in{index}", text, "")
        case ToolCall(id=call_id, name=name, arguments=arguments):
            kind = "custom_tool_call" if name in freeform else "function_call"
            return tool_call(kind, f"{PREFIXES[kind]}_{run}_in{index}", call_id, name, arguments)
        case ToolResult(call_id=call_id, parts=parts):
            plain = all(isinstance(each, Text) for each in parts)
            texts = "".join(each.text for each in parts if isinstance(each, Text))
            output = texts if plain else [_content(each, False) for each in parts]
            head = {"type": "function_call_output", "id": f"fco_{run}_in{index}", "call_id": call_id}
            return head | {"output": output, "status": "completed"}
    raise TypeError(f"no item is made of {type(part).__name__}")


def _content(part: Part, assistant: bool) -> dict[str, Any]:
    if isinstance(part, Image):
        url = part.url or f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"
        return {"type": "input_image", "image_url": url, "detail": part.detail or "auto", "file_id": None}
    if isinstance(part, Document):
        kind = part.media_type or "application/octet-stream"
        url = f"data:{kind};base64,{base64.b64encode(part.data).decode()}"
        return {"type": "input_file", "filename": part.name, "file_data": url, "file_id": None}
    assert isinstance(part, Text)
    return output_text(part.text) if assistant else {"type": "input_text", "text": part.text}
