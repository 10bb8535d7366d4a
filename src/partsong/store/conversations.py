"""Conversations as the store knows them: what a list shows of each, and the words by which a search finds it.

A run belongs to the conversation that its label `conversation` names: any name, or the id of the conversation's first
run. A conversation is listed once a run has such a label, so what programs ask one by one is not listed.
"""

import datetime
from collections.abc import Iterable

from msgspec import Struct

from partsong.events import RunFinished, RunStarted
from partsong.store.runs import Timed

EXAMINED = 2000  # conversations that a search for words looks at
WORDS = 20_000  # characters of a question, and of an answer, in which a search looks for words


class StoredConversation(Struct, frozen=True):
    """A conversation in a list.

    title: what the caller has named it, or else the first line of its first question; empty if neither is known
    named: whether the caller has named it
    last: id of the newest run
    latest: when the newest run began
    """

    id: str
    title: str
    named: bool
    pinned: bool
    archived: bool
    last: str
    latest: datetime.datetime


class ConversationSearch(Struct, frozen=True):
    """Which conversations of one caller to list: those that are pinned first, then the latest first.

    text: words that the conversation must contain, in any order and either case: in its title, questions or answers
    archived: whether those that are archived are listed, instead of the others
    before: id of a conversation; only those that follow it in the list
    limit: most conversations to list
    """

    caller: str = ""
    text: str = ""
    archived: bool = False
    before: str = ""
    limit: int = 50


class Change(Struct, frozen=True):
    """What to change of a conversation. `None` leaves a field as it is.

    title: new name; empty to be named after the first question again
    """

    title: str | None = None
    pinned: bool | None = None
    archived: bool | None = None


def words_of(events: Iterable[Timed]) -> str:
    """The question and the answer in these events of a run, in folded case, as a search looks at them.

    Long ones are cut, so that one run costs a search no more than a few thousand words.
    """
    found: list[str] = []
    for _, event in events:
        if isinstance(event, RunStarted):
            messages = event.conversation.messages
            asked = next((message.text for message in reversed(messages) if message.role == "user"), "")
            found.append(asked[:WORDS])
        elif isinstance(event, RunFinished):
            found.append(event.answer.text[:WORDS])
    # Neither NUL nor half a character can be typed into a search, and not every database takes them.
    return "".join(f"{text.casefold()}\n" for text in found).encode("utf-8", "replace").decode().replace("\0", " ")
