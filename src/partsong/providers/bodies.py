"""Changes to a request's body that leave out, or replace, whatever a server does not accept.

A change takes the body as a dictionary, and modifies it in place at the top level alone. Nested values are replaced and
never modified, because other bodies of the same call share them.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from partsong.model import ANY_OBJECT
from partsong.providers.ranges import Range, nearest_effort

Body = dict[str, Any]
Change = Callable[[Body], None]
PICTURE = "[picture]"  # text that replaces an image for a model that reads text alone
PICTURES = ("image_url", "image")  # types of content parts that hold an image, in either API


def drop(*names: str) -> Change:
    """Return a change that removes the fields `names`."""

    def change(body: Body) -> None:
        for name in names:
            body.pop(name, None)

    return change


def keep_in(bounds: Range, *fields: str, whole: bool) -> Change:
    """Return a change that moves the values of `fields` to the nearest value in `bounds`.

    whole: whether the values must be whole numbers
    """

    def change(body: Body) -> None:
        for field in fields:
            if body.get(field) is not None:
                body[field] = bounds.nearest(body[field], whole=whole)

    return change


def offer(efforts: tuple[str, ...]) -> Change:
    """Return a change that sets the reasoning effort to the nearest of `efforts`, in the field of either API."""

    def change(body: Body) -> None:
        if (asked := effort_of(body)) and asked not in efforts:
            nearest = nearest_effort(asked, efforts)
            if "reasoning_effort" in body:
                body["reasoning_effort"] = nearest
            else:
                body["output_config"] = body["output_config"] | {"effort": nearest}

    return change


def effort_of(body: Body) -> str:
    """Return the reasoning effort in the body of either API; "" if it has none."""
    effort = body.get("reasoning_effort") or body.get("output_config", {}).get("effort")
    return effort if isinstance(effort, str) else ""


def drop_effort(body: Body) -> None:
    """Remove the reasoning effort from a body of the Messages API."""
    kept = {name: value for name, value in body.get("output_config", {}).items() if name != "effort"}
    body.pop("output_config", None)
    if kept:
        body["output_config"] = kept


def system_first(body: Body) -> None:
    """Join leading system messages into one; move later ones to the start of the user's next message."""
    spell_names(body)
    leading: list[Any] = []
    late: list[Any] = []
    rest: list[Body] = []
    for message in body["messages"]:
        if message["role"] == "system":
            (late if rest else leading).append(message["content"])
        elif late and message["role"] == "user":
            rest.append(message | {"content": _all_together([*late, message["content"]])})
            late = []
        else:
            rest.append(message)
    if late:
        rest.append({"role": "user", "content": _all_together(late)})
    head = [{"role": "system", "content": _all_together(leading)}] if leading else []
    body["messages"] = [*head, *rest]


def name_pictures(body: Body) -> None:
    """Replace each image by `PICTURE`. Contents that then hold text alone become strings, which all servers accept."""
    body["messages"] = [
        message | {"content": without_pictures(message["content"])}
        if isinstance(message.get("content"), list)
        else message
        for message in body["messages"]
    ]


def without_pictures(content: list[Any]) -> Any:
    """Return a content with `PICTURE` in place of each image, also within tool results.

    A content of Chat Completions without other parts than text becomes a string.
    """
    parts: list[Any] = []
    for part in content:
        if part["type"] in PICTURES:
            parts.append({"type": "text", "text": PICTURE})
        elif part["type"] == "tool_result" and isinstance(part.get("content"), list):
            parts.append(part | {"content": without_pictures(part["content"])})
        else:
            parts.append(part)
    if parts != content and all(part.keys() == {"type", "text"} for part in parts) and "image_url" in str(content):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def do_not_think(body: Body) -> None:
    """Turn thinking off if a tool must be called, in the field of DeepSeek and Kimi (`thinking`)."""
    if is_forced(body):
        body.pop("reasoning_effort", None)
        body["thinking"] = {"type": "disabled"}


def do_not_think_either(body: Body) -> None:
    """Turn thinking off if a tool must be called, in the field of Alibaba (`enable_thinking`)."""
    if is_forced(body):
        body.pop("reasoning_effort", None)
        body.pop("thinking", None)
        body["enable_thinking"] = False


def let_choose(body: Body) -> None:
    """Let the model choose whether to call a tool, although a call is required. The engine checks the answer."""
    if is_forced(body):
        body.pop("thinking", None)
        body.pop("enable_thinking", None)
        body["tool_choice"] = "auto"


def drop_thinking(body: Body) -> None:
    """Turn thinking off if a tool must be called, in a body of the Messages API."""
    if isinstance(choice := body.get("tool_choice"), dict) and choice["type"] in ("any", "tool"):
        body.pop("thinking", None)


def is_forced(body: Body) -> bool:
    """Return whether a body of Chat Completions demands a tool call."""
    return body.get("tool_choice") not in (None, "auto", "none")


def drop_reasoning(body: Body) -> None:
    """Remove the reasoning of earlier turns from a body of Chat Completions."""
    body["messages"] = [
        {name: value for name, value in message.items() if name not in ("reasoning_content", "reasoning_details")}
        for message in body["messages"]
    ]


def rename_limit(body: Body) -> None:
    """Send `max_tokens` as `max_completion_tokens`, which newer models of OpenAI require."""
    if "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")


def loosen_schema(body: Body) -> None:
    """Turn off `strict` for the response format, and remove it from tools."""
    if "json_schema" in (asked := body.get("response_format", {})):
        body["response_format"] = asked | {"json_schema": asked["json_schema"] | {"strict": False}}
    if "tools" in body:
        body["tools"] = [
            tool | {"function": {name: value for name, value in tool["function"].items() if name != "strict"}}
            for tool in body["tools"]
        ]


def spell_out_object(body: Body) -> None:
    """Replace the response format `json_object` by a JSON Schema that allows any object."""
    if body.get("response_format") == {"type": "json_object"}:
        schema = {"name": "answer", "strict": False, "schema": Raw(ANY_OBJECT)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}


def spell_names(body: Body) -> None:
    """Move each message's `name` into its content, as a first paragraph "name:"."""
    body["messages"] = [
        {
            "role": message["role"],
            "content": _together(f"{message['name']}:", message["content"]),
            **{key: value for key, value in message.items() if key not in ("role", "name", "content")},
        }
        if "name" in message
        else message
        for message in body["messages"]
    ]


def merge_neighbours(body: Body) -> None:
    """Merge adjacent messages of one role. Tool results and messages with tool calls stay as they are."""
    spell_names(body)
    merged: list[Body] = []
    for message in body["messages"]:
        last = merged[-1] if merged else {}
        if message["role"] == last.get("role") and message.keys() == last.keys() == {"role", "content"}:
            merged[-1] = {"role": last["role"], "content": _together(last["content"], message["content"])}
        else:
            merged.append(message)
    body["messages"] = merged


def fold_system(body: Body) -> None:
    """Move the text of all system messages to the start of the user's first message."""
    spell_names(body)
    told = [message["content"] for message in body["messages"] if message["role"] == "system"]
    rest = [message for message in body["messages"] if message["role"] != "system"]
    if not told:
        return
    words = "\n\n".join(told)
    for index, message in enumerate(rest):
        if message["role"] == "user":
            rest[index] = {"role": "user", "content": _together(words, message["content"])}
            break
    else:
        rest.insert(0, {"role": "user", "content": words})
    body["messages"] = rest


def fold_system_and_merge(body: Body) -> None:
    fold_system(body)
    merge_neighbours(body)


def _together(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    pieces = (
        [{"type": "text", "text": content}] if isinstance(content, str) else content for content in (first, second)
    )
    return [piece for content in pieces for piece in content]


def sign_calls(body: Body) -> None:
    """Add a placeholder signature to the first tool call of each message that has tool calls without a signature.

    Google defines the placeholder for tool calls of other models, and for tool calls whose signature was lost.
    """
    signature = {"google": {"thought_signature": "skip_thought_signature_validator"}}
    body["messages"] = [
        message | {"tool_calls": [{"extra_content": signature} | calls[0], *calls[1:]]}
        if (calls := message.get("tool_calls"))
        else message
        for message in body["messages"]
    ]


def one_of_two(body: Body) -> None:
    """Remove `top_p` if there is a temperature."""
    if "temperature" in body:
        body.pop("top_p", None)


def drop_thoughts(body: Body) -> None:
    """Remove the thinking of earlier turns from a body of the Messages API."""
    body["messages"] = [
        turn | {"content": [block for block in turn["content"] if "thinking" not in block["type"]]}
        for turn in body["messages"]
    ]


def adapt(body: Body) -> None:
    """Change how thinking is requested in the Messages API.

    Newer models accept no token budget, so a budget becomes `adaptive`. Older models accept nothing but a budget, so
    `adaptive` is removed.
    """
    thinking = body.get("thinking", {})
    if thinking.get("type") == "enabled":
        body["thinking"] = {"type": "adaptive"}
    elif thinking.get("type") == "adaptive":
        body.pop("thinking")


def think_anyway(body: Body) -> None:
    """Remove `thinking` if it is disabled, for models that always think."""
    if body.get("thinking") == {"type": "disabled"}:
        body.pop("thinking")


def _all_together(contents: list[Any]) -> Any:
    joined = contents[0]
    for content in contents[1:]:
        joined = _together(joined, content)
    return joined
