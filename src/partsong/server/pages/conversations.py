"""The routes for conversations: list and search them, read how the runs of one follow each other, change one.

A conversation is deleted as for every other client: `DELETE /v1/runs?conversation=ID`.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.server import live
from partsong.server.pages.history import line
from partsong.server.pages.request import read_json, read_query, said, who, wrong
from partsong.server.problems import ProblemError
from partsong.server.service import Service, caller_of
from partsong.store import AFTER, CONVERSATION, Change, ConversationSearch, StoredConversation, StoredRun
from partsong.store.runs import AGAIN
from partsong.wire.reply import Problem

MOST = 200  # conversations in one response
MOST_RUNS = 1000  # runs of a conversation in one response
LONGEST_TITLE = 200  # characters


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a list. `store.ConversationSearch` explains the fields."""

    text: Annotated[str, Meta(max_length=500)] = ""
    archived: bool = False
    limit: Annotated[int, Meta(ge=1, le=MOST)] = 50
    before: str = ""


class Changed(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a change. A field that is left out stays as it is; an empty title is the first question again."""

    title: Annotated[str, Meta(max_length=LONGEST_TITLE)] | None = None
    pinned: bool | None = None
    archived: bool | None = None


class Conversations:
    """The conversations of the caller."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        return [
            Route("/api/conversations", self.conversations, methods=["GET"]),
            Route("/api/conversations/{name:path}", self.change, methods=["PATCH"]),
            Route("/api/runs/{run}/conversation", self.around, methods=["GET"]),
        ]

    async def conversations(self, request: Request) -> Response:
        service = self.service()
        caller = caller_of(who(request, service))
        wanted = read_query(request, Wanted)
        if wanted.before:
            service.check_id(wanted.before, "before")
        search = ConversationSearch(caller, wanted.text, wanted.archived, wanted.before, wanted.limit)
        found, more = await service.store.conversations(search)
        return said({"conversations": [entry(each) for each in found], "more": more})

    async def around(self, request: Request) -> Response:
        """The conversation of a run: its entry, and its runs, each with the run whose answer it goes on from."""
        service = self.service()
        key = who(request, service)
        run = await live.own(service, request.path_params["run"], key)
        name = run.labels.get(CONVERSATION, run.id)
        listed = await service.store.conversation(run.caller, name)
        runs = await service.store.runs_in(run.caller, name, MOST_RUNS)
        first = runs[0] if runs else run
        alone = {"id": name, "title": first.question, "named": False, "pinned": False, "archived": False}
        after = parents(runs)
        told = [line(each) | {"after": after[each.id]} for each in runs]
        return said((alone if listed is None else entry(listed)) | {"runs": told, "listed": listed is not None})

    async def change(self, request: Request) -> Response:
        """Rename, pin or archive a conversation, or take this back."""
        service = self.service()
        key = who(request, service)
        name, caller = service.check_id(request.path_params["name"], "conversation"), caller_of(key)
        with service.bodies.holding(key) as counted:
            wanted = await read_json(request, service, counted, Changed)
        title = None if wanted.title is None else " ".join(wanted.title.split())
        if (title, wanted.pinned, wanted.archived) == (None, None, None):
            raise wrong("say what to change: title, pinned or archived", None)
        if not await service.store.change_conversation(caller, name, Change(title, wanted.pinned, wanted.archived)):
            raise ProblemError(Problem(404, "not_found", f'you have no conversation "{name}"', "conversation"))
        found = await service.store.conversation(caller, name)
        return said({"id": name} if found is None else entry(found))


def entry(conversation: StoredConversation) -> dict[str, Any]:
    """A conversation as plain values for the list."""
    return {
        "id": conversation.id,
        "title": conversation.title,
        "named": conversation.named,
        "pinned": conversation.pinned,
        "archived": conversation.archived,
        "last": conversation.last,
        "at": conversation.latest.isoformat(timespec="milliseconds"),
    }


def parents(runs: Sequence[StoredRun]) -> dict[str, str | None]:
    """For each run of a conversation, the run whose answer it goes on from; `None` for one that begins it.

    runs: in the order of their beginnings

    A run says so itself by the label `after`. A run that was made from another one again stands beside it. Where
    nothing is said, as by a client that sends only the name of a conversation, a run goes on from the run before it.
    """
    after: dict[str, str | None] = {}
    last: str | None = None
    for run in runs:
        said_to_be = run.labels.get(AFTER)
        if said_to_be is not None and (said_to_be in after or not said_to_be):
            after[run.id] = said_to_be or None
        elif (again := run.labels.get(AGAIN, "")) in after:
            after[run.id] = after[again]
        else:
            after[run.id] = None if said_to_be is not None else last
        last = run.id
    return after
