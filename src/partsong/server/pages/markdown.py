"""Exports a stored run as Markdown: the question, the answer, the proposals, the losses and the usage.

Texts of models and users are block quotes, so that their headings and fences do not change the document. The answer
alone is not quoted, so that it can be copied. An open fence in the answer is closed.
"""

import re
from collections.abc import Iterator
from typing import Any

Plain = dict[str, Any]


def as_markdown(document: Plain) -> str:
    """The Markdown text of a stored run. `document` is the result of `store.document.as_json`."""
    return "\n".join(lines(document)).rstrip() + "\n"


def lines(document: Plain) -> Iterator[str]:
    """The pieces of the Markdown text, which are joined by newlines."""
    run, aggregator = document["run"], document["aggregator"]
    yield f"# {code(run['recipe'])}"
    yield f"\n{run['started']} · run {run['id']} · {run['status']}"
    yield f"\n## Question\n\n{quoted(question(document))}"
    if document["answer"] is not None:
        yield f"\n## Answer of {code(document['answer']['model'])}\n\n{closed(document['answer']['text'])}"
    elif document["error"] is not None:
        yield f"\n## No answer\n\n{quoted(document['error']['message'])}"
    elif aggregator is not None and aggregator["text"]:
        yield f"\n## Answer so far\n\n{closed(aggregator['text'])}"
    for layer in document["layers"]:
        yield f"\n## Layer {layer['layer'] + 1}"
        for seat in layer["seats"]:
            yield f"\n### Seat {seat['seat'] + 1}: {code(seat['model'])}"
            yield f"\n{facts(seat)}" if facts(seat) else ""
            if seat["text"]:
                yield f"\n{quoted(seat['text'])}"
            if seat["error"] is not None:
                yield f"\nLost ({seat['error']['cause']}):\n\n{quoted(seat['error']['message'])}"
    for sent in document.get("sent", ()):
        yield from prompt(sent, len(document["layers"]))
    if document["losses"]:
        yield "\n## Lost or changed\n"
        for loss in document["losses"]:
            place = f"layer {loss['layer'] + 1}, seat {loss['seat'] + 1}"
            message = " ".join(loss["message"].split()).replace("`", "'")
            yield f"* {place}, {code(loss['model'])}: {loss['kind']} ({loss['cause']})" + (
                f": {code(message)}" if message else ""
            )
    yield f"\n## Usage\n\n{came_to(document)}"


def prompt(sent: Plain, layers: int) -> Iterator[str]:
    """What one seat was sent. `layers` is the number of layers of proposers that have begun."""
    seat = f"layer {sent['layer'] + 1}, seat {sent['seat'] + 1}"
    if sent["layer"] == layers:
        seat = "analyst" if sent["seat"] else "aggregator"
    yield f"\n## Sent to {seat}{', step {}'.format(sent['step']) if sent['step'] else ''}"
    settings = ", ".join(f"{name} {value}" for name, value in sent["sampling"].items())
    read = [call["input_tokens"] for call in sent["calls"] if call["input_tokens"] is not None]
    told = [*([f"{read[-1]:,} tokens read"] if read else []), settings or "no settings"]
    yield f"\n{code(' · '.join(told))}"
    for note in sent["notes"]:
        yield f"\n{code(note)}"
    for message in sent["messages"]:
        yield f"\n### {message['role']} (about {message['tokens']:,} tokens)\n\n{quoted(message['text'])}"


def question(document: Plain) -> str:
    """The last message of the user or, for a run without events, the first line of the question in its summary."""
    messages = (document["conversation"] or {}).get("messages", [])
    for message in reversed(messages):
        if message["role"] == "user":
            return "\n\n".join(part.get("text") or f"({part.get('type', 'something')})" for part in message["parts"])
    return str(document["run"]["question"])


def facts(seat: Plain) -> str:
    """The tokens, dollars and seconds of a seat as one line of text, as far as they are known."""
    told = []
    if (usage := seat["usage"]) is not None:
        told.append(f"{usage['input_tokens']:,} tokens in, {usage['output_tokens']:,} out")
        told.append("price unknown" if usage["dollars"] is None else f"{usage['dollars']} dollars")
    if seat["started"] is not None and seat["ended"] is not None:
        told.append(f"{seat['ended'] - seat['started']:.1f} s")
    if seat["finish_reason"] not in (None, "stop"):
        told.append(f"ended by {seat['finish_reason']}")
    return " · ".join(told)


def came_to(document: Plain) -> str:
    """The calls, tokens, dollars and seconds of the run as one line of text."""
    run = document["run"]
    price = "price unknown" if run["dollars"] is None else f"{run['dollars']} dollars"
    stored = f", {run['stored']:,} stored" if run["stored"] else ""
    calls = f"{run['calls']:,} call{'s' * (run['calls'] != 1)}{stored}"
    return f"{calls} · {run['tokens']:,} tokens · {price} · {run['seconds']:.1f} s"


def quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines()) or ">"


def closed(text: str) -> str:
    """The text. If it ends inside a fenced code block, a line that closes the block is added."""
    fence = ""
    for line in text.splitlines():
        found = re.match(r" {0,3}(`{3,}|~{3,})(.*)", line)
        if found is None:
            continue
        if not fence:
            fence = found[1]
        elif found[1].startswith(fence) and not found[2].strip():
            fence = ""
    return f"{text.rstrip()}\n{fence}" if fence else text.strip()


def code(text: str) -> str:
    """The text as inline code in Markdown, on one line and with its backticks."""
    plain = " ".join(text.split())
    marks = "``" if "`" in plain else "`"
    return f"{marks} {plain} {marks}" if "`" in plain else f"{marks}{plain}{marks}"
