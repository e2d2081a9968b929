"""The page over HTTP: what it is asked, and what it answers. The one file that knows Starlette."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, get_args

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quarterturn.worker.console.explaining import Explaining
from quarterturn.worker.console.faults import STATIC, ConsoleError, in_json
from quarterturn.worker.console.guard import COOKIE, HEADERS, Guard
from quarterturn.worker.console.index import Index
from quarterturn.worker.console.judging import MAX_BYTES, Judging
from quarterturn.worker.console.languages import language_of
from quarterturn.worker.console.pictures import LARGE, SMALL, Pictures, glaze_png
from quarterturn.worker.console.query import Filter, Page, Review
from quarterturn.worker.console.reviewers import Reviewers
from quarterturn.worker.console.shown import shown
from quarterturn.worker.console.summary import Summary
from quarterturn.worker.contract.errors import QuarterturnError, UnavailableError

_LOOK_S = 0.25
_BEAT_S = 5.0  # the page takes the console for gone after some of them
_MAX_PAGE = 1000
_FOR_EVER = {"Cache-Control": "private, max-age=86400, immutable"}  # the picture of a result is always the same


@dataclass(frozen=True, slots=True)
class Parts:
    """What the page is made of. `stopping` ends the streams, which would keep the server from ending."""

    index: Index
    summary: Summary
    pictures: Pictures
    explaining: Explaining
    judging: Judging
    reviewers: Reviewers
    guard: Guard
    secure: bool
    stopping: threading.Event


def app_of(parts: Parts) -> Starlette:
    """The application that serves `parts`."""
    answers = Answers(parts)
    routes = [
        Route("/", answers.page),
        Route("/api/state", answers.state),
        Route("/api/events", answers.events),
        Route("/api/results", answers.results),
        Route("/api/results/{id}", answers.result),
        Route("/api/results/{id}/picture", answers.picture),
        Route("/api/results/{id}/extent", answers.extent),
        Route("/api/results/{id}/heat", answers.heat),
        Route("/api/results/{id}/explanation", answers.explanation),
        Route("/api/session", answers.session, methods=["POST"]),
        Route("/api/feedback", answers.feedback, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Guarded, guard=parts.guard)],
        exception_handlers={QuarterturnError: _fault},
    )


class Answers:
    """One method for each address. What takes long is done in other threads."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._template = (STATIC / "index.html").read_text(encoding="utf-8")

    async def page(self, request: Request) -> Response:
        """The page, in the browser's language until somebody chooses another."""
        language = language_of(request.headers.get("accept-language", ""))
        return HTMLResponse(self._template.replace('lang="en"', f'lang="{language}"', 1))

    async def state(self, request: Request) -> Response:
        """The summary, once."""
        return Response(await run_in_threadpool(self._parts.summary.text), media_type="application/json")

    async def events(self, request: Request) -> Response:
        """The summary as Server-sent events, whenever it changes."""
        return StreamingResponse(self._changes(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def _changes(self) -> AsyncIterator[str]:
        sent, sent_s = "", 0.0
        while not self._parts.stopping.is_set():
            text = await run_in_threadpool(self._parts.summary.text)
            if text != sent:
                yield f"event: state\ndata: {text}\n\n"
            elif time.monotonic() - sent_s > _BEAT_S:
                yield "event: beat\ndata: \n\n"
            else:
                await asyncio.sleep(_LOOK_S)
                continue
            sent, sent_s = text, time.monotonic()

    async def results(self, request: Request) -> Response:
        """A page of results, the newest first; or, with `since`, what changed."""
        chosen, page = _asked(request.query_params)
        return JSONResponse(await run_in_threadpool(self._results, chosen, page))

    def _results(self, chosen: Filter, page: Page) -> dict[str, Any]:
        index = self._parts.index
        answer: dict[str, Any] = {"epoch": index.epoch, "seq": index.seq}
        answer["rows"] = [shown(row) for row in index.page(chosen, page)]
        if page.since is None and page.before is None:
            answer["total"] = index.count(chosen)
        return answer

    async def result(self, request: Request) -> Response:
        """One result."""
        return JSONResponse(shown(await self._row(request)))

    async def picture(self, request: Request) -> Response:
        """Its frame as JPEG, small or large."""
        row = await self._row(request)
        side = LARGE if request.query_params.get("size") == "large" else SMALL
        jpeg = await asyncio.wrap_future(self._parts.pictures.ask(row, side))
        return Response(jpeg, media_type="image/jpeg", headers=_FOR_EVER)

    async def extent(self, request: Request) -> Response:
        """The size of its frame as it came, and the part that the picture shows, in pixels."""
        found = await asyncio.wrap_future(self._parts.pictures.extent(await self._row(request)))
        return JSONResponse({"width": found.width, "height": found.height, "seen": found.seen.model_dump()})

    async def heat(self, request: Request) -> Response:
        """Its heat map as a transparent PNG to be stretched over the picture."""
        found = await run_in_threadpool(self._parts.index.heat_of, request.path_params["id"])
        if found is None:
            raise ConsoleError("heat")
        return Response(await run_in_threadpool(glaze_png, found), media_type="image/png", headers=_FOR_EVER)

    async def explanation(self, request: Request) -> Response:
        """Why it is as it is: the frame is judged again, which takes some seconds."""
        row = await self._row(request)
        told = await asyncio.wrap_future(self._parts.explaining.ask(row["id"]))
        return Response(told, media_type="application/json")

    async def session(self, request: Request) -> Response:
        """Whose token it is, and a pass to read with."""
        name = self._reviewer(request)
        if name is None:
            return _refused(403, ConsoleError("token"))
        answer = JSONResponse({"name": name})
        reading_pass = self._parts.reviewers.reading_pass(name)
        answer.set_cookie(COOKIE, reading_pass, httponly=True, samesite="strict", secure=self._parts.secure)
        return answer

    async def feedback(self, request: Request) -> Response:
        """A judgement, in the name of whoever has the token. Only the header counts: a foreign page cannot send it."""
        name = self._reviewer(request)
        if name is None:
            return _refused(403, ConsoleError("signed"))
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BYTES:
                return _refused(413, ConsoleError("large", bytes=MAX_BYTES))
        count = await run_in_threadpool(self._parts.judging.judge, body, name)
        return JSONResponse({"count": count, "by": name})

    def _reviewer(self, request: Request) -> str | None:
        return self._parts.guard.name(request.headers.get("authorization", ""))

    async def _row(self, request: Request) -> dict[str, Any]:
        row = await run_in_threadpool(self._parts.index.get, request.path_params["id"])
        if row is None:
            raise ConsoleError("recent")
        return row


def _asked(query: QueryParams) -> tuple[Filter, Page]:
    """What the address asks for.

    Raises:
        DataError: a number is none.
    """
    try:
        hours = float(query["hours"]) if query.get("hours") else None
        before = (float(query["beforeAt"]), query["beforeId"]) if "beforeId" in query else None
        since = int(query["since"]) if "since" in query else None
        limit = min(_MAX_PAGE, max(1, int(query.get("limit", "200"))))
    except (ValueError, KeyError):
        raise ConsoleError("numbers") from None
    named = {name: query.get(name) or None for name in ("lane", "camera", "product", "kind")}
    review: Review = "any"
    for known in get_args(Review):
        review = known if query.get("review") == known else review
    after = None if hours is None else time.time() - hours * 3600
    return Filter(**named, after=after, review=review), Page(before, since, limit)


class _Guarded:
    """Asks the guard about each request, and gives each answer its headers."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-cache")
                headers.update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            return
        asked = Headers(scope=scope)
        said = (asked.get(name, "") for name in ("host", "authorization", "cookie"))
        refused = self._guard.refusal(scope["path"], *said)
        await (_refused(*refused) if refused else self._app)(scope, receive, answer)


async def _fault(request: Request, error: Exception) -> Response:
    """A fault as one sentence: 404 for what is not there, 503 for what does not answer."""
    status = 503 if isinstance(error, UnavailableError) else 404 if request.method == "GET" else 400
    return _refused(status, error)


def _refused(status: int, error: Exception) -> Response:
    return Response(json.dumps(in_json(error)), status, media_type="application/json")
