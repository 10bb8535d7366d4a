"""Conversation and proposals in, messages out: pure functions, and the wording as data.

Two layouts. `paper` does what the paper's reference code does: the instruction and the numbered proposals are appended
to the system message. `tail`, the default, puts them in a trailing message of role user instead: there they have no
system authority, they are fenced so that a proposal cannot pretend to be the end of the proposals, and everything in
front of them stays byte for byte the same, so that a provider's prompt cache holds.

Proposals always refer to the latest turn only: no earlier layer's text is ever shown again.
"""

import hashlib
from importlib import resources

from msgspec.structs import replace

from partsong.model import Conversation, Document, Image, Message, Part, Text, Tool, ToolCall, ToolResult
from partsong.recipe import Advice, Layout

TRUNCATED = ' truncated="limit of tokens"'  # in the mark of a proposal that stops in the middle
LONGEST_DESCRIPTION = 200  # characters of a tool's description that an adviser is shown
LONGEST_RESULT = 4000  # characters of a tool's result that an adviser is shown


def instruction_for(layout: Layout) -> str:
    """Our own aggregate-and-synthesize instruction for a layout."""
    return _wording(layout)


def acting_instruction() -> str:
    """Our own instruction for an aggregator with tools, in the layout `tail`."""
    return _wording("act")


def selecting_instruction() -> str:
    """Our own instruction for an aggregator that selects a proposal."""
    return _wording("select")


def _wording(name: str) -> str:
    return (resources.files("partsong") / "instructions" / f"{name}.md").read_text(encoding="utf-8").rstrip("\n")


def compose(
    conversation: Conversation,
    proposals: tuple[str, ...],
    layout: Layout,
    instruction: str,
    system: str = "",
    truncated: frozenset[int] = frozenset(),
    calls: str = "",
) -> tuple[Message, ...]:
    """The messages for an agent that sees `proposals` (in seat order; none in the first layer).

    `system` is what the agent itself is told; it follows the caller's system prompt after a blank line. `truncated`
    holds the positions of proposals that end at their limit of tokens: they are marked, except in the paper's layout,
    which stays as it is. `calls` lists the calls that are proposed, and stands behind the proposals.
    """
    messages = _told(conversation.messages, system) if system else conversation.messages
    if not proposals:
        return messages
    if layout == "paper":
        return _told(messages, instruction + numbered(proposals) + (calls and f"\n\n{calls}"))
    return (*messages, Message("user", (Text(fenced(proposals, instruction, truncated, calls)),)))


def numbered(proposals: tuple[str, ...]) -> str:
    """The proposals as the paper's reference code writes them: each on a new line, numbered from 1."""
    return "".join(f"\n{number}. {text}" for number, text in enumerate(proposals, 1))


def fenced(
    proposals: tuple[str, ...], instruction: str, truncated: frozenset[int] = frozenset(), calls: str = ""
) -> str:
    """The instruction and the proposals, each between fences that no proposal can write.

    In the instruction `{fence}` stands for the fence's word, so that the model can be told what to look for, and
    `{proposals}` for where they belong; without it they come after the instruction.
    """
    fence = f"proposal-{fence_word((*proposals, calls) if calls else proposals)}"
    blocks = "\n\n".join(
        f"<{fence} number={position + 1}{TRUNCATED if position in truncated else ''}>\n{text}\n</{fence}>"
        for position, text in enumerate(proposals)
    )
    if calls:
        blocks += f"\n\n<{fence} calls>\n{calls}\n</{fence}>"
    before, placed, after = instruction.partition("{proposals}")
    return before.replace("{fence}", fence) + ("" if placed else "\n\n") + blocks + after.replace("{fence}", fence)


def listed(calls: tuple[tuple[str, str, int], ...], advisers: int) -> str:
    """The calls that are proposed: of each the tool's name, its arguments, and how many of the advisers propose it."""
    lines = (
        f"{number}. proposed by {count} of {advisers}: {name} {_shortened(arguments)}"
        for number, (name, arguments, count) in enumerate(calls, 1)
    )
    return _wording("calls").replace("{calls}", "\n".join(lines))


def fence_word(proposals: tuple[str, ...]) -> str:
    """A word that stands in none of the proposals and that none of their authors could know.

    It is a digest of them all, so it depends on what the other seats wrote, and still the same proposals give the
    same prompt: a stored call is found again. (A random nonce would make every later layer a different request.)
    """
    digest = hashlib.sha256()
    for text in proposals:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    word = digest.hexdigest()[:12]
    while any(word in text for text in proposals):
        digest.update(b"again")
        word = digest.hexdigest()[:12]
    return word


def as_document(name: str, text: str, extent: str = "") -> str:
    """The text of a file as models read it: under its name, between marks that the text itself cannot hold.

    `extent` says how much of the file is there, such as "pages 1-20 of 43". The marks are a digest of the text, so the
    same file gives the same prompt in every seat and every run.
    """
    label = f"[document {name}, {extent}]" if extent else f"[document {name}]"
    mark = f"document-{fence_word((text,))}"
    return f"{label}\n<{mark}>\n{text}\n</{mark}>"


def with_documents(messages: tuple[Message, ...], *, sent: bool) -> tuple[Message, ...]:
    """The messages as one model is given them: documents as text, or as they are if `sent` is true and they can be."""
    return tuple(
        replace(message, parts=_shown(message.parts, sent))
        if any(isinstance(part, Document | ToolResult) for part in message.parts)
        else message
        for message in messages
    )


def without_files(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages with the texts of their documents alone, where no model takes the files: nothing else is kept."""
    return tuple(
        replace(message, parts=tuple(map(_without_file, message.parts))) if documents_of((message,)) else message
        for message in messages
    )


def _without_file(part: Part) -> Part:
    match part:
        case Document():
            return replace(part, data=b"")
        case ToolResult(parts=pieces):
            kept = (replace(piece, data=b"") if isinstance(piece, Document) else piece for piece in pieces)
            return replace(part, parts=tuple(kept))
        case _:
            return part


def left_out(messages: tuple[Message, ...], *, sent: bool) -> str:
    """What a model is not shown of the documents, in words; "" for nothing. `sent` is as in `with_documents`."""
    lacks = (
        f"{document.left_out} of {document.name}"
        for document in documents_of(messages)
        if document.left_out and not (sent and document.can_be_sent)
    )
    return "; ".join(lacks)


def documents_of(messages: tuple[Message, ...]) -> tuple[Document, ...]:
    """All documents of the messages, also those in results of tools."""
    return tuple(
        piece
        for message in messages
        for part in message.parts
        for piece in (part.parts if isinstance(part, ToolResult) else (part,))
        if isinstance(piece, Document)
    )


def _shown(parts: tuple[Part, ...], sent: bool) -> tuple[Part, ...]:
    """The parts with documents as text, each on lines of its own."""
    shown: list[Part] = []
    for part in parts:
        match part:
            case Document() if not (sent and part.can_be_sent):
                before = shown[-1] if shown else None
                gap = "\n\n" if isinstance(before, Text) and not before.text.endswith("\n") else ""
                shown.append(Text(f"{gap}{part.as_text}\n\n", part.cache_control))
            case ToolResult(parts=pieces) if any(isinstance(piece, Document) for piece in pieces):
                kept = tuple(piece for piece in _shown(pieces, sent) if isinstance(piece, Text | Image | Document))
                shown.append(replace(part, parts=kept))
            case _:
                shown.append(part)
    return tuple(shown)


def advised(conversation: Conversation, advice: Advice = "user_turn") -> Conversation:
    """The conversation as a proposer sees it: up to where advice was last due, past calls and results told in words.

    Proposers advise, the aggregator acts (it alone gets the schemas). Providers refuse tool messages where no tools
    are declared, and a model that is shown calls would write some; so they become text. What the aggregator has done
    since advice was due is left out: so the steps until it is due again ask for the same, and find it in the store.
    Marks for a provider's cache go, too: clients move them from step to step.
    """
    messages = tuple(
        Message(
            "user" if message.role == "tool" else message.role,
            tuple(_in_words(part) for part in message.parts),
            message.name,
        )
        for message in conversation.messages[: _due(conversation, advice) + 1]
    )
    if conversation.tools:
        asked = _proposing if proposing(conversation, advice) else _advising
        messages = _told(messages, asked(conversation.tools))
    return Conversation(messages)


def proposing(conversation: Conversation, advice: Advice) -> bool:
    """Whether proposers are to propose calls."""
    return advice == "calls" and bool(conversation.tools) and conversation.tool_choice != "none"


def in_a_turn(conversation: Conversation, advice: Advice = "user_turn") -> bool:
    """Whether the aggregator has begun to act on the advice that it was given last."""
    return _due(conversation, advice) < len(conversation.messages) - 1


def _due(conversation: Conversation, advice: Advice) -> int:
    """The last message that proposers are shown."""
    last, spoke = len(conversation.messages) - 1, _user_spoke(conversation)
    if advice == "user_turn":
        return spoke
    if advice in ("every_step", "calls"):
        return last
    # A step is what the assistant did, with the results that it got for it.
    ends = [at for at in range(spoke, last) if conversation.messages[at + 1].role == "assistant"] + [last]
    every = advice if isinstance(advice, int) else 1
    return ends[(len(ends) - 1) // every * every]


def _advising(tools: tuple[Tool, ...]) -> str:
    listed = "\n".join(f"- {tool.name}: {_line(tool.description)}".rstrip(": ") for tool in tools)
    return _wording("advise").replace("{tools}", listed)


def _proposing(tools: tuple[Tool, ...]) -> str:
    """Who writes calls must know all of a tool, so nothing of it is left out."""
    told = "\n\n".join(
        f"{tool.name}: {tool.description.strip()}".rstrip(": ") + f"\n{tool.parameters.decode('utf-8', 'replace')}"
        for tool in tools
    )
    return _wording("propose").replace("{tools}", told)


def _line(text: str) -> str:
    """The first line of a description, as far as it is one."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= LONGEST_DESCRIPTION else f"{line[:LONGEST_DESCRIPTION]}…"


def _user_spoke(conversation: Conversation) -> int:
    """Where the last message of the user stands; at the end, if there is none."""
    last = len(conversation.messages) - 1
    return next((at for at in range(last, -1, -1) if conversation.messages[at].role == "user"), last)


def _in_words(part: Part) -> Part:
    match part:
        case ToolCall(name=name, arguments=arguments):
            return Text(f"\n[called the tool {name} with {arguments}]\n")
        case ToolResult(parts=parts, is_error=is_error):
            text = "".join(_piece_in_words(piece) for piece in parts)
            return Text(f"[{'the tool failed with' if is_error else 'the tool returned'}:\n{_shortened(text)}\n]")
        case (
            Text(cache_control=cache_control)
            | Image(cache_control=cache_control)
            | Document(cache_control=cache_control)
        ) if cache_control:
            return replace(part, cache_control="")
        case _:
            return part


def _piece_in_words(piece: Text | Image | Document) -> str:
    match piece:
        case Text(text=text):
            return text
        case Document():
            return f"\n{piece.as_text}\n"
        case Image():
            return "[a picture]"


def _shortened(text: str) -> str:
    if len(text) <= LONGEST_RESULT:
        return text
    half = LONGEST_RESULT // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} of {len(text)} characters left out …]\n{text[-half:]}"


def _told(messages: tuple[Message, ...], more: str) -> tuple[Message, ...]:
    """The messages with `more` appended to the system message after a blank line, or as a new one in front."""
    if messages and messages[0].role == "system":
        head = messages[0]
        if any(
            isinstance(part, Text) and part.cache_control for part in head.parts
        ):  # what is marked stays a part of its own
            return (replace(head, parts=(*head.parts, Text(f"\n\n{more}"))), *messages[1:])
        return (replace(head, parts=(*_not_text(head), Text(f"{head.text}\n\n{more}"))), *messages[1:])
    return (Message("system", (Text(more),)), *messages)


def _not_text(message: Message) -> tuple[Image | Document, ...]:
    return tuple(part for part in message.parts if isinstance(part, Image | Document))
