"""`partsong show RUN --prompts`: the messages that each seat of a stored run was sent, as text or as JSON."""

import sys
from collections.abc import Iterator

import msgspec

from partsong.cli.journal import status, stored_run
from partsong.cli.json_output import print_json
from partsong.cli.losses import short_id
from partsong.cli.printable import printable
from partsong.configuration import find_configuration
from partsong.engine.sent import Sent, plain, sent_in, shown
from partsong.errors import InputError


async def print_prompts(name: str, *, json: bool) -> int:
    """Print what the seats of a stored run were sent; return the exit code.

    name: the run's id, the first letters of the id, or "last"
    json: whether a list with one JSON object for each seat is printed

    Raises `InputError` if there is no such run, or if the run was stored without its words.
    """
    run, events = await stored_run(name)
    if not events:
        raise InputError(f"the prompts of the run {run.id} are not stored ({status(run)})")
    sent = await sent_in((event for _, event in events), bounds=find_configuration().bounds)
    if json:
        print_json([plain(each) for each in sent])
        return 0
    for each in sent:
        for line in _lines(each):
            print(printable(line, sys.stdout.encoding))
    return 0


def _lines(sent: Sent) -> Iterator[str]:
    """The lines of one seat, which is named by its layer and its index as on the page that `show` prints."""
    messages = [shown(message) for message in sent.messages]
    models = list(dict.fromkeys(short_id(call.model) for call in sent.calls))
    step = f", step {sent.step}" if sent.step else ""
    yield f"── ({sent.layer}, {sent.seat}){step}  {', '.join(models)}".rstrip()
    settings = msgspec.to_builtins(sent.sampling)
    told = [f"about {sum(message.tokens for message in messages):,} tokens"]
    told += [f"{key} {value}" for key, value in settings.items() if value not in (None, [], ())]
    told += [f"tools {', '.join(sent.tools)}"] if sent.tools else []
    yield ", ".join(told + (["answer with a schema"] if sent.schema else []))
    yield from sent.notes
    for message in messages:
        yield ""
        yield f"{message.role}:"
        yield message.text
    yield ""
