"""A server on loopback with the Batch APIs of OpenAI and Anthropic, as their references describe them, and with faults.

It answers single calls too. An answer depends on the model and on the last message, so that equal calls have equal
answers, however they are made.
"""

import asyncio
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

from aiohttp import web


def said(model: str, messages: list[dict[str, Any]]) -> str:
    content = messages[-1]["content"]
    text = content if isinstance(content, str) else json.dumps(content)
    return f"{model} says {hashlib.sha256(text.encode()).hexdigest()[:6]}"


def completion(body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": said(body["model"], body["messages"])}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
    }


def message(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": said(body["model"], body["messages"])}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 10},
    }


class JobsServer:
    """The server. Each fault in `faults` happens once, unless it ends in "always".

    single: single calls, by model
    jobs: every job that was accepted: its id, its label, its moment, its calls by `custom_id`, and the looks at it
    asked: calls in jobs, by model
    """

    def __init__(self, *faults: str) -> None:
        self.faults = list(faults)
        self.single: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.port = 0
        self.looks = 2  # looks after which a job has ended

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def fault(self, name: str) -> bool:
        if f"{name} always" in self.faults:
            return True
        if name in self.faults:
            self.faults.remove(name)
            return True
        return False

    # What both APIs share

    def accept(self, calls: list[tuple[str, dict[str, Any]]], label: str) -> dict[str, Any]:
        assert len({name for name, _ in calls}) == len(calls), "a custom_id is there twice"
        assert len({body["model"] for _, body in calls}) == 1, "a job has several models"
        for _, body in calls:
            assert "stream" not in body
            self.asked[body["model"]] += 1
        name = f"job_{len(self.jobs)}"
        self.jobs[name] = {
            "id": name,
            "label": label,
            "moment": time.time(),
            "calls": dict(calls),
            "looks": 0,
            "refused": self.fault("refused job"),
            "expired": self.fault("expire"),
            "bad": self.fault("refuse a call"),
        }
        return self.jobs[name]

    def look(self, name: str) -> dict[str, Any]:
        job = self.jobs[name]
        job["looks"] += 1
        return job

    def ended(self, job: dict[str, Any]) -> bool:
        return bool(job["looks"] >= self.looks)

    def results(self, job: dict[str, Any]) -> list[tuple[str, dict[str, Any] | None, bool]]:
        """The id, the body, and whether the call is refused, in any order. A call without a body has expired."""
        calls = list(job["calls"].items())
        random.Random(3).shuffle(calls)
        found = []
        for index, (name, body) in enumerate(calls):
            expired = job["expired"] and index % 2 == 0
            found.append((name, None if expired else body, job["bad"] and index == 1))
        return found

    # OpenAI

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.single[body["model"]] += 1
        return web.json_response(completion(body))

    async def upload(self, request: web.Request) -> web.Response:
        if self.fault("no jobs"):
            return web.json_response({"error": {"message": "Not Found"}}, status=404)
        if self.fault("no key"):
            return web.json_response({"error": {"message": "Incorrect API key provided"}}, status=401)
        form = await request.post()
        assert form["purpose"] == "batch"
        file = form["file"]
        assert isinstance(file, web.FileField)
        name = f"file-{len(self.files)}"
        self.files[name] = file.file.read()
        return web.json_response({"id": name, "object": "file"})

    async def create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert (asked["endpoint"], asked["completion_window"]) == ("/v1/chat/completions", "24h")
        if self.fault("broken before"):
            return web.json_response({"error": {"message": "oops"}}, status=500)
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        assert all((line["method"], line["url"]) == ("POST", "/v1/chat/completions") for line in lines)
        job = self.accept([(line["custom_id"], line["body"]) for line in lines], asked["metadata"]["partsong"])
        if self.fault("broken after"):
            return web.json_response({"error": {"message": "oops"}}, status=500)
        return web.json_response(self.openai(job))

    def openai(self, job: dict[str, Any]) -> dict[str, Any]:
        ended = self.ended(job)
        status = (
            ("failed" if job["refused"] else "expired" if job["expired"] else "completed") if ended else "in_progress"
        )
        return {
            "id": job["id"],
            "object": "batch",
            "status": status if ended else "in_progress",
            "created_at": int(job["moment"]),
            "metadata": {"partsong": job["label"]},
            "errors": {"data": [{"message": "no such model"}]} if job["refused"] else None,
            "output_file_id": f"{job['id']}-out" if ended and not job["refused"] else None,
            "error_file_id": f"{job['id']}-err" if ended and not job["refused"] else None,
            "request_counts": {"total": len(job["calls"]), "completed": 0, "failed": 0},
        }

    async def list_openai(self, request: web.Request) -> web.Response:
        newest = list(reversed(self.jobs.values()))
        names = [job["id"] for job in newest]
        after = request.query.get("after")
        start = names.index(after) + 1 if after else 0
        page = newest[start : start + 2]
        return web.json_response(
            {"object": "list", "data": [self.openai(job) for job in page], "has_more": start + 2 < len(newest)}
        )

    async def one_openai(self, request: web.Request) -> web.Response:
        if self.fault("broken look"):
            return web.json_response({"error": {"message": "oops"}}, status=503)
        return web.json_response(self.openai(self.look(request.match_info["name"])))

    async def content(self, request: web.Request) -> web.StreamResponse:
        name, _, kind = request.match_info["name"].partition("-")
        lines: list[Any] = []
        for identity, body, bad in self.results(self.jobs[name]):
            if kind == "out" and body is not None and not bad:
                response = {"status_code": 200, "request_id": "r", "body": completion(body)}
                lines.append({"id": "x", "custom_id": identity, "response": response, "error": None})
            if kind == "err" and body is None:
                told = {"code": "batch_expired", "message": "This request could not be executed"}
                lines.append({"id": "x", "custom_id": identity, "response": None, "error": told})
            if kind == "err" and bad and body is not None:
                refused = {"error": {"message": "Unsupported value", "type": "invalid_request_error"}}
                lines.append({"id": "x", "custom_id": identity, "response": {"status_code": 400, "body": refused}})
        return await self.sent(request, lines)

    async def sent(self, request: web.Request, lines: list[Any]) -> web.StreamResponse:
        """Lines of results, with lines between them that nobody asked for."""
        odd = ["no json", json.dumps([1]), json.dumps({"custom_id": "ff" * 32, "response": {"status_code": 200}}), ""]
        text = "\n".join([*odd, *map(json.dumps, lines), *map(json.dumps, lines[:1])]) + "\n"
        response = web.StreamResponse()
        await response.prepare(request)
        data = text.encode()
        if self.fault("broken results"):
            await response.write(data[: len(data) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        for start in range(0, len(data), 1000):
            await response.write(data[start : start + 1000])
        return response

    # Anthropic

    async def messages(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.single[body["model"]] += 1
        return web.json_response(message(body))

    async def create_anthropic(self, request: web.Request) -> web.Response:
        asked = json.loads(await request.read())
        if self.fault("broken before"):
            return web.json_response({"type": "error", "error": {"type": "api_error", "message": "oops"}}, status=500)
        job = self.accept([(each["custom_id"], each["params"]) for each in asked["requests"]], "")
        if self.fault("broken after"):
            return web.json_response({"type": "error", "error": {"type": "api_error", "message": "oops"}}, status=500)
        return web.json_response(self.anthropic(job))

    def anthropic(self, job: dict[str, Any]) -> dict[str, Any]:
        ended = self.ended(job)
        counts = {"processing": 0 if ended else len(job["calls"]), "succeeded": len(job["calls"]) if ended else 0}
        return {
            "id": job["id"],
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "created_at": datetime.fromtimestamp(job["moment"], UTC).isoformat(),
            "request_counts": {**counts, "errored": 0, "canceled": 0, "expired": 0},
            "results_url": "http://elsewhere.example/results" if ended else None,
        }

    async def list_anthropic(self, request: web.Request) -> web.Response:
        newest = list(reversed(self.jobs.values()))
        return web.json_response({"data": [self.anthropic(job) for job in newest], "has_more": False, "last_id": None})

    async def one_anthropic(self, request: web.Request) -> web.Response:
        return web.json_response(self.anthropic(self.look(request.match_info["name"])))

    async def results_anthropic(self, request: web.Request) -> web.StreamResponse:
        lines: list[Any] = []
        for identity, body, bad in self.results(self.jobs[request.match_info["name"]]):
            if body is None:
                result: dict[str, Any] = {"type": "expired"}
            elif bad:
                told = {"type": "invalid_request_error", "message": "max_tokens: too large"}
                result = {"type": "errored", "error": {"type": "error", "error": told}}
            else:
                result = {"type": "succeeded", "message": message(body)}
            lines.append({"custom_id": identity, "result": result})
        return await self.sent(request, lines)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files/{name}/content", self.content)
        app.router.add_post("/v1/batches", self.create)
        app.router.add_get("/v1/batches", self.list_openai)
        app.router.add_get("/v1/batches/{name}", self.one_openai)
        app.router.add_post("/v1/messages", self.messages)
        app.router.add_post("/v1/messages/batches", self.create_anthropic)
        app.router.add_get("/v1/messages/batches", self.list_anthropic)
        app.router.add_get("/v1/messages/batches/{name}", self.one_anthropic)
        app.router.add_get("/v1/messages/batches/{name}/results", self.results_anthropic)
        return app


@contextmanager
def jobs_server(*faults: str) -> Iterator[JobsServer]:
    """The server, in a thread of its own, until the block is left."""
    server, ready, stop = JobsServer(*faults), Event(), []

    async def serve() -> None:
        runner = web.AppRunner(server.application())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = runner.addresses[0][1]
        ended = asyncio.Event()
        stop.append((asyncio.get_running_loop(), ended))
        ready.set()
        await ended.wait()
        await runner.cleanup()

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait(30)
    try:
        yield server
    finally:
        loop, ended = stop[0]
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)
