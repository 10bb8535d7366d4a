"""The routes with which callers delete their runs: one run, a conversation, or everything.

A caller deletes its own runs only. The runs of others look as if they did not exist.
"""

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.keys import Key
from partsong.server import ending, live
from partsong.server.incoming import headers_of, identify
from partsong.server.problems import ProblemError
from partsong.server.service import Service, caller_of
from partsong.store import Deleted
from partsong.wire.reply import Problem

LATEST = 20  # runs of a conversation among which are those that go on
ENDING = 5.0  # seconds that a run which is stopped may take to end


class Deleting:
    """Deletes runs of the caller."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        return [
            Route("/v1/runs/{run}", self.one, methods=["DELETE"]),
            Route("/v1/runs", self.many, methods=["DELETE"]),
        ]

    async def one(self, request: Request) -> Response:
        """Delete a run. One that goes on without its client is stopped before; any other goes on, and is not kept."""
        service = self.service()
        key = who(request, service)
        run = await live.own(service, request.path_params["run"], key)
        await ending.end(service, run.id, caller_of(key), ENDING)
        return deleted(await service.store.delete_run(run.id))

    async def many(self, request: Request) -> Response:
        """Delete a conversation (`?conversation=ID`) or everything (`?all=yes`)."""
        service = self.service()
        caller = caller_of(who(request, service))
        asked = dict(request.query_params)
        match asked:
            case {"conversation": name} if len(asked) == 1:
                service.check_id(name, "conversation")
                for run in await service.store.runs_in(caller, name, LATEST):
                    if run.status == "open":
                        await ending.end(service, run.id, caller, ENDING)
                return deleted(await service.store.delete_conversation(caller, name))
            case {"all": "yes"} if len(asked) == 1:
                return deleted(await service.store.delete_everything(caller))
        message = "say what to delete: /v1/runs/RUN, /v1/runs?conversation=ID, or /v1/runs?all=yes for everything"
        raise ProblemError(Problem(400, "invalid_request", message))


def who(request: Request, service: Service) -> Key | None:
    """The key of the request. A page that was reached by DNS rebinding may delete nothing."""
    headers = headers_of(request.scope)
    headers.setdefault("origin", f"http://{headers.get('host', '')}")
    return identify(request.scope, headers, service.keys, service.serving.origins)


def deleted(what: Deleted) -> Response:
    """How much was deleted."""
    body = msgspec.json.encode({"deleted": True, "runs": what.runs, "calls": what.calls})
    return Response(body, 200, {"cache-control": "no-store"}, "application/json")
