"""Serializes a response as a stream of events. Each output item is added, sent in deltas, and sent whole when done.

The JSON of a delta is encoded once for its item, except the sequence number and the text. Items are done in the order
in which they were added. Tool calls are done at the end, because providers send pieces of several tool calls by turns,
and the engine checks the tool calls first. Reasoning whose signature was requested is done at the end, too, because
the signature comes last. The text of a call of a free-text tool is sent at the end as a whole.

The final answer decides. Parts of the answer that were not streamed are sent at the end. Items that were streamed but
are not part of the answer are done with the status `incomplete`, and left out of the final response object.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from partsong.model import (
    Answer,
    Delta,
    Part,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from partsong.wire.parsed import ParsedRequest
from partsong.wire.reply import Head, Problem
from partsong.wire.responses.serialize import (
    Status,
    encrypts,
    error_of,
    identity,
    message,
    outcome,
    output_text,
    response,
    thought,
    tool_call,
)

encode = msgspec.json.encode
DELTAS: dict[str, tuple[str, dict[str, Any]]] = {
    "reasoning": ("response.reasoning_summary_text.delta", {"summary_index": 0}),
    "message": ("response.output_text.delta", {"content_index": 0, "logprobs": []}),
    "function_call": ("response.function_call_arguments.delta", {}),
    "custom_tool_call": ("response.custom_tool_call_input.delta", {}),
}


class _Item:
    """One output item, as far as it was sent.

    prefix: start of each delta event of the item, up to the sequence number
    ready: whether the item is complete, so that it can be sent as done
    dropped: whether the item is not part of the final answer
    """

    __slots__ = (
        "call_id",
        "dropped",
        "id",
        "index",
        "kind",
        "name",
        "pieces",
        "prefix",
        "ready",
        "signature",
        "status",
    )

    def __init__(self, kind: str, item_id: str, index: int, call_id: str = "", name: str = "") -> None:
        self.kind, self.id, self.index, self.call_id, self.name = kind, item_id, index, call_id, name
        self.pieces: list[str] = []
        self.status: Status = "in_progress"
        self.ready = self.dropped = False
        self.signature = ""
        event, places = DELTAS[kind]
        fields = encode({"type": event, "item_id": item_id, "output_index": index, **places})
        self.prefix = b"event: %b\ndata: %b," % (event.encode(), fields[:-1])

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def written(self) -> dict[str, Any]:
        match self.kind:
            case "reasoning":
                shown = thought(self.id, self.text, self.signature)
                return shown | {"status": self.status} if self.status == "incomplete" else shown
            case "message":
                return message(self.id, self.text, self.status)
        # The text of an incomplete free-text call is inside incomplete JSON, from which it cannot be taken reliably.
        cut = self.kind == "custom_tool_call" and self.status == "incomplete"
        return tool_call(self.kind, self.id, self.call_id, self.name, "" if cut else self.text, self.status)


class Stream:
    """One streamed response; see `partsong.wire.reply.Stream`."""

    __slots__ = ("_begun", "_count", "_done", "_encrypts", "_head", "_items", "_open", "_request", "_tool_calls")

    def __init__(self, request: ParsedRequest, head: Head) -> None:
        self._request, self._head = request, head
        self._encrypts = encrypts(request)
        self._begun = False
        self._count = 0  # events so far, which is the next sequence number
        self._items: list[_Item] = []
        self._open: _Item | None = None  # the message or reasoning that is being sent
        self._tool_calls: dict[int, _Item] = {}  # by index of the tool call in the answer
        self._done = 0  # number of items that were sent as done

    def begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        started = response(self._request, self._head, "in_progress", [])
        return self._event("response.created", response=started) + self._event("response.in_progress", response=started)

    def say(self, delta: Delta, choice: int = 0) -> bytes:
        if type(delta) is TextDelta:
            return self._say("message", delta.text)
        if type(delta) is ReasoningDelta:
            return self._say("reasoning", delta.text)
        if type(delta) is ToolCallDelta:
            return self._say_tool_call(delta)
        return b""

    def tell(self, event: bytes, choice: int = 0) -> bytes:
        told = (
            self.begin() + b'event: partsong.event\ndata: {"type":"partsong.event","sequence_number":%d,"event":%b}\n\n'
        )
        told %= (self._count, event)
        self._count += 1
        return told

    def wait(self) -> bytes:
        """Return another `response.in_progress` event.

        A client may resume the stream of a background response after a given sequence number. Keep-alives are not
        sent again then, so in such a stream they do not use up a sequence number.
        """
        begun = self.begin()
        number = self._count
        shown = response(self._request, self._head, "in_progress", [])
        event = self._event("response.in_progress", response=shown)
        if self._request.background:
            self._count = number
        return begun + event

    def finish(
        self, answers: tuple[Answer, ...], usage: Usage, partsong: dict[str, Any], completed: int | None = None
    ) -> bytes:
        answer, self._head = answers[0], replace(self._head, completed=completed)
        said = [self.begin()]
        if self._items:
            said += self._complete(answer)
        else:
            said += [self._repeat(part) for part in answer.parts]
        said.append(self._close())
        status, _ = outcome(answer)
        left = [item for item in self._items if not item.dropped]
        if status == "incomplete" and left and left[-1].index >= self._done:
            left[-1].status = "incomplete"
        if self._encrypts:
            signatures = {part.text: part.signature for part in answer.parts if type(part) is Reasoning}
            for item in left:
                if item.kind == "reasoning":
                    item.signature = item.signature or signatures.get(item.text, "")
        for item in self._items:
            item.ready = True
        said.append(self._release())
        output = [item.written() for item in left]
        told = response(self._request, self._head, status, output, answer=answer, usage=usage)
        said.append(self._event(f"response.{status}", response=told | {"partsong": partsong}))
        return b"".join(said)

    def fail(self, problem: Problem) -> bytes:
        begun = self.begin()
        for item in self._items:
            if item.status == "in_progress":
                item.status = "incomplete"
        output = [item.written() for item in self._items]
        failed = response(self._request, self._head, "failed", output, error=error_of(problem))
        return begun + self._event("response.failed", response=failed | {"partsong": problem.partsong})

    def _say(self, kind: str, text: str) -> bytes:
        """Return the events for more text of a message or of reasoning; a new item is added if another kind is open."""
        item = self._open
        if item is None or item.kind != kind:
            if not text:
                return b""
            before = self.begin() + self._close() + self._release()
            item, added = self._add(kind)
            self._open = item
            if kind == "reasoning":
                part = {"type": "summary_text", "text": ""}
                added += self._of("response.reasoning_summary_part.added", item, summary_index=0, part=part)
            return before + added + self._delta(item, text)
        return self._delta(item, text)

    def _say_tool_call(self, delta: ToolCallDelta) -> bytes:
        before = b""
        item = self._tool_calls.get(delta.index)
        if item is None:
            before = self.begin() + self._close() + self._release()
            kind = "custom_tool_call" if delta.name in self._request.freeform else "function_call"
            item, added = self._add(kind, delta.id, delta.name)
            self._tool_calls[delta.index] = item
            before += added
        elif delta.name and not item.name:
            item.name = delta.name  # some providers send the name late; the client gets it when the item is done
        return before + self._delta(item, delta.arguments) if delta.arguments else before

    def _delta(self, item: _Item, text: str) -> bytes:
        item.pieces.append(text)
        if item.kind == "custom_tool_call":  # a piece of JSON arguments cannot be turned into a piece of the text
            return b""
        told = b'%b"sequence_number":%d,"delta":%b}\n\n' % (item.prefix, self._count, encode(text))
        self._count += 1
        return told

    def _add(self, kind: str, call_id: str = "", name: str = "") -> tuple[_Item, bytes]:
        index = len(self._items)
        item = _Item(kind, identity(kind, self._head, index), index, call_id, name)
        self._items.append(item)
        empty = item.written() | ({"content": []} if kind == "message" else {})
        added = self._event("response.output_item.added", output_index=index, item=empty)
        if kind == "message":
            added += self._of("response.content_part.added", item, content_index=0, part=output_text(""))
        return item, added

    def _close(self) -> bytes:
        """Return the events that end the text of the open message or reasoning, if there is one."""
        item, self._open = self._open, None
        if item is None:
            return b""
        text, said = item.text, b""
        item.ready = item.kind == "message" or not self._encrypts
        if item.kind == "message":
            said += self._of("response.output_text.done", item, content_index=0, text=text, logprobs=[])
            said += self._of("response.content_part.done", item, content_index=0, part=output_text(text))
        else:
            part = {"type": "summary_text", "text": text}
            said += self._of("response.reasoning_summary_text.done", item, summary_index=0, text=text)
            said += self._of("response.reasoning_summary_part.done", item, summary_index=0, part=part)
        return said

    def _release(self) -> bytes:
        """Return the `done` events of ready items, up to the first item that is not ready."""
        said = b""
        while self._done < len(self._items) and (item := self._items[self._done]).ready:
            self._done += 1
            if item.status == "in_progress":
                item.status = "completed"
            if item.kind == "function_call":
                said += self._of("response.function_call_arguments.done", item, name=item.name, arguments=item.text)
            if item.kind == "custom_tool_call" and item.status == "completed":
                text = item.written()["input"]
                said += self._of("response.custom_tool_call_input.delta", item, delta=text) if text else b""
                said += self._of("response.custom_tool_call_input.done", item, input=text)
            said += self._event("response.output_item.done", output_index=item.index, item=item.written())
        return said

    def _complete(self, answer: Answer) -> list[bytes]:
        """Return the events for parts of the answer that were not streamed, and drop items that the answer lacks."""
        said: list[bytes] = []
        thoughts = [part for part in answer.parts if type(part) is Reasoning]
        words = [part for part in answer.parts if type(part) is Text]
        told_parts: tuple[tuple[str, Sequence[Reasoning | Text]], ...] = (("reasoning", thoughts), ("message", words))
        for kind, parts in told_parts:
            told = "".join(item.text for item in self._items if item.kind == kind)
            wanted = "".join(part.text for part in parts)
            if told and wanted.startswith(told):
                if rest := wanted[len(told) :]:
                    said.append(self._say(kind, rest))
                continue
            self._drop(item for item in self._items if item.kind == kind)
            said.append(self._close())
            said += [self._repeat(part) for part in parts]
        tool_calls = {item.call_id: item for item in self._tool_calls.values()}
        for part in answer.parts:
            if type(part) is not ToolCall:
                continue
            item = tool_calls.pop(part.id, None)
            if item is None:
                said.append(self._repeat(part))
                continue
            item.name, told = part.name, item.text
            if not part.arguments.startswith(told):
                item.pieces = [part.arguments]
            elif rest := part.arguments[len(told) :]:
                said.append(self._delta(item, rest))
        self._drop(tool_calls.values())
        return said

    def _drop(self, items: Iterable[_Item]) -> None:
        for item in items:
            item.dropped, item.status = True, "incomplete"

    def _repeat(self, part: Part) -> bytes:
        """Return the events for a part of the answer that was not streamed at all."""
        match part:
            case Text(text=text):
                return self._say("message", text)
            case Reasoning(text=text, signature=signature):
                before = self._close()
                if text:
                    return before + self._say("reasoning", text)
                if signature and self._encrypts:
                    item, added = self._add("reasoning")
                    item.signature = signature
                    return before + added
                return before
            case ToolCall(id=call_id, name=name, arguments=arguments):
                return self._say_tool_call(
                    ToolCallDelta(max(self._tool_calls, default=-1) + 1, call_id, name, arguments)
                )
        return b""

    def _event(self, event: str, **fields: Any) -> bytes:
        told = encode({"type": event, "sequence_number": self._count, **fields})
        self._count += 1
        return b"event: %b\ndata: %b\n\n" % (event.encode(), told)

    def _of(self, event: str, item: _Item, **fields: Any) -> bytes:
        return self._event(event, item_id=item.id, output_index=item.index, **fields)
