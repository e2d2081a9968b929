"""The console beside a real worker: its results, why they are so, and what a person says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from playwright.sync_api import expect, sync_playwright

from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.settings.worker import WorkerSettings
from tests import services
from tests.conftest import CreateTopics
from tests.end_to_end.test_stream import stop, wait_until, worker
from tests.lines import MadeLine, quarterturn
from tests.parts import good_part, png, scratched_part
from tests.worker.console.browser import DESK, Visitor
from tests.worker.console.conftest import Page
from tests.worker.console.pretend import TOKENS
from tests.worker.transport import librdkafka


@pytest.fixture
def page(
    line: MadeLine, kafka_bootstrap: str, create_topics: CreateTopics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Page]:
    """A console of a line whose worker has judged two good parts and a scratched one."""
    from quarterturn.worker.console.server import ConsoleServer

    monkeypatch.setenv("ANNA", TOKENS["anna"])
    topics, config = create_topics(1), tmp_path / "worker.yaml"
    document = {
        "line": "line-1",
        "engine": {"path": str(line.engine), "threads": 1},
        "bank": {"file": {"path": str(tmp_path / "banks")}},
        "transport": {"kafka": {"bootstrap_servers": kafka_bootstrap, "topics": topics.model_dump()}},
        "overkill": 0.05,
        "http": None,
        "console": {"port": 0, "state": str(tmp_path / "state"), "reviewers": {"anna": {"env": "ANNA"}}},
    }
    config.write_text(yaml.safe_dump(document))
    quarterturn("bank", "push", str(line.banks[0]), "--config", str(config))
    rng = np.random.default_rng(5)
    producer = librdkafka.producer(kafka_bootstrap)
    for number, picture in enumerate((good_part(rng), good_part(rng), scratched_part(rng))):
        headers = [("camera", b"top-01"), ("product", b"ring"), ("part_id", f"SN-{number}".encode())]
        producer.produce(topics.frames, png(picture), b"top-01", headers=headers)
    assert producer.flush(20) == 0
    with ConsoleServer(load_settings(config, WorkerSettings)) as server, Page(base_url=server.url, timeout=60) as page:
        with worker(config, "worker") as process:
            wait_until(lambda: page.get("/api/results").json()["total"] == 3, "all results")
            stop(process)
        yield page


def test_a_result_is_explained_and_shown_beside_the_nearest_good_part(page: Page) -> None:
    (row,) = [row for row in page.get("/api/results").json()["rows"] if row["part"] == "SN-2"]
    assert row["kind"] is not None
    told = page.get(f"/api/results/{row['id']}/explanation").json()
    assert told["same_score"] is True
    assert told["score"] == pytest.approx(row["score"])
    assert (told["threshold"], told["bank"]) == (pytest.approx(row["threshold"]), row["bank"])
    assert page.state()["bank"]["version"] == row["bank"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=services.install_chromium(), args=["--no-sandbox"])
        me = Visitor(browser, str(page.base_url).rstrip("/"), DESK, TOKENS["anna"])
        shown = me.go(f"review/{row['lane']}")
        expect(shown.locator(".headline")).to_contain_text("SN-2")
        expect(shown.locator("figure.nearest img").first).to_be_visible(timeout=60_000)
        me.press("Enter")
        expect(shown.locator(".explanation")).to_contain_text("Judged again: the very same score")
        expect(shown.locator(".explanation tbody tr")).to_have_count(2)
        me.keep("explained")
        me.press("2")
        expect(shown.locator("#toast")).to_contain_text("Noted: bad.")
        me.leave()
        browser.close()
    assert page.get(f"/api/results/{row['id']}").json()["by"] == "anna"


def test_what_cannot_be_explained_is_said(page: Page) -> None:
    assert page.get("/api/results/frames:0:99/explanation").status_code == 404
