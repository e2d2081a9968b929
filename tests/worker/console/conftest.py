from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from quarterturn.worker.settings.worker import Topics
from tests.worker.console.browser import ANNA, DESK, Visitor
from tests.worker.console.pretend import TOKENS, Made, PretendLine, jpeg

Serve = Callable[..., "Page"]
Visit = Callable[..., Visitor]
REVIEWERS = {name: {"env": f"TOKEN_OF_{name.upper()}"} for name in TOKENS}


class Page(httpx.Client):
    """Asks a console; `anna` are the headers that judge in her name."""

    anna = {"Authorization": f"Bearer {TOKENS['anna']}"}  # noqa: RUF012

    def state(self) -> dict[str, Any]:
        return dict(self.get("/api/state").json())

    def ids(self, **query: Any) -> list[str]:
        return [row["id"] for row in self.get("/api/results", params={"limit": 1000, **query}).json()["rows"]]

    def await_state(self, is_so: Callable[[dict[str, Any]], bool], timeout_s: float = 20) -> dict[str, Any]:
        """The first summary that `is_so`."""
        deadline = time.monotonic() + timeout_s
        while not is_so(state := self.state()):
            assert time.monotonic() < deadline, state
            time.sleep(0.05)
        return state

    def await_results(self, count: int) -> None:
        self.await_state(lambda _: self.get("/api/results").json()["total"] >= count)


@pytest.fixture
def line(kafka_bootstrap: str, create_topics: Callable[[int], Topics]) -> PretendLine:
    return PretendLine(kafka_bootstrap, create_topics(1))


@pytest.fixture
def serve(line: PretendLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a console of `line`, with these settings of its own; gives a client of it."""
    from quarterturn.worker.console.server import ConsoleServer  # once pytest_configure has set kafka-python's filters

    for name, token in TOKENS.items():
        monkeypatch.setenv(f"TOKEN_OF_{name.upper()}", token)
    with ExitStack() as stack:

        def start(folder: Path = tmp_path, cameras: dict[str, Any] | None = None, **console: Any) -> Page:
            settings = line.settings(folder, {"reviewers": REVIEWERS, **console}, cameras=cameras or {})
            server = stack.enter_context(ConsoleServer(settings))
            # The address of every machine is reached by that of this one.
            page = stack.enter_context(Page(base_url=server.url.replace("0.0.0.0", "127.0.0.1"), timeout=20))
            page.stop = server.__exit__  # type: ignore[attr-defined]
            return page

        yield start


@pytest.fixture
def visit(chromium: Browser, serve: Serve) -> Iterator[Visit]:
    """Open a console's page as somebody; the console is a new one, or that at `url`."""
    visitors: list[Visitor] = []

    def start(
        size: tuple[int, int] = DESK, token: str | None = ANNA, url: str | None = None, **options: Any
    ) -> Visitor:
        visitors.append(Visitor(chromium, url or str(serve().base_url).rstrip("/"), size, token, **options))
        return visitors[-1]

    yield start
    for visitor in visitors:
        visitor.leave()


@pytest.fixture
def alert(line: PretendLine) -> str:
    made = Made("defect", part="p-1", ratio=1.5, picture=jpeg((200, 30, 30), 400, 200), camera="top-01")
    return line.publish(made)[0]


@pytest.fixture
def page(alert: str, serve: Serve) -> Page:
    page = serve()
    page.await_results(1)
    return page
