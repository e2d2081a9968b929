"""The service that makes the results of parts, with a transport that gives what it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from quarterturn.worker.commands.main import main
from quarterturn.worker.messages.events import events_of
from quarterturn.worker.messages.parts import PartData
from quarterturn.worker.messages.settled import Settled
from quarterturn.worker.runtime.parts import PartsService
from quarterturn.worker.runtime.server import HealthServer
from quarterturn.worker.settings.parts import PartsSettings
from quarterturn.worker.settings.worker import HttpSettings
from quarterturn.worker.transport.base import RewoundError, Standing
from quarterturn.worker.transport.kafka.parts import Polled, Result
from tests import examples
from tests.worker.runtime.test_server import get

SETTINGS = PartsSettings(cameras=("top-01", "side-01"), window_s=5.0)


def result(offset: int, part: str | None, camera: str = "top-01", second: int = 0, partition: int = 0) -> Result:
    event = events_of(examples.verdict(examples.frame(offset, partition)))[0]
    frame = {"capturedAt": f"2026-01-01T00:00:{second:02}Z"}
    data = json.loads(event.value) | {"partId": part, "camera": camera, "frame": frame}
    return Result(partition, offset, dict(event.headers)["ce_type"], json.dumps(data).encode())


class Log:
    """Gives its polls one after the other, and then nothing; delivers unless told otherwise."""

    standing = Standing("Kafka", "ok", 1)

    def __init__(self, *polls: Polled, refuses: Sequence[int] = ()) -> None:
        self._polls, self._refuses = list(polls), list(refuses)
        self.delivered: list[tuple[list[str], dict[int, Settled]]] = []
        self.stop = threading.Event()
        self.left = False

    def poll(self, _: int, __: float) -> Polled:
        if self._polls:
            self.last = self._polls.pop(0)
            return self.last
        self.stop.set()
        return Polled(self.last.begun, [], frozenset())

    def begun(self) -> Mapping[int, Settled]:
        return self.delivered[-1][1] if self.delivered else {0: Settled(0), 1: Settled(0)}

    def deliver(self, parts: Sequence[PartData], settled: Mapping[int, Settled]) -> None:
        if self._refuses and self._refuses.pop(0):
            raise RewoundError("the group was rebalanced")
        self.delivered.append(([part.part_id for part in parts], dict(settled)))

    def leave(self) -> None:
        self.left = True


def serve(log: Log, *times: float) -> PartsService:
    """Run over all polls, at these times of our clock, and the last of them from then on."""
    left = [0.0, *times]
    service = PartsService(log, SETTINGS, lambda: left.pop(0) if len(left) > 1 else left[0])  # type: ignore[arg-type]
    service.run(log.stop)
    return service


def sample(service: PartsService, name: str, **labels: str) -> float | None:
    value: float | None = service.health.metrics.registry.get_sample_value(f"quarterturn_{name}", labels)
    return value


def polled(*results: Result, begun: int = 1, more: Sequence[int] = ()) -> Polled:
    return Polled(begun, list(results), frozenset(more))


def test_a_result_is_delivered_with_the_positions_that_it_settles() -> None:
    log = Log(polled(result(0, "a"), result(1, None), result(2, "b")), polled(result(3, "a", "side-01")))
    service = serve(log, 0.0)
    assert log.delivered == [(["a"], {0: Settled(0, "Cw"), 1: Settled(0)})], "0, 1 and 3 are done, 2 is open"
    assert sample(service, "parts_total", verdict="good", state="complete") == 1
    assert sample(service, "frames_of_no_part_total", why="no_part_id") == 1
    assert sample(service, "open_parts") == 1


def test_what_was_refused_comes_again_and_is_counted_once() -> None:
    both = [result(0, "a"), result(1, "a", "side-01")]
    log = Log(polled(*both), polled(*both, begun=2), refuses=[1, 0])
    service = serve(log, 0.0)
    assert [parts for parts, _ in log.delivered] == [["a"]]
    assert sample(service, "rewinds_total") == 1
    assert sample(service, "parts_total", verdict="good", state="complete") == 1


def test_what_was_read_before_a_rebalance_counts_for_nothing() -> None:
    """Another one may have settled it meanwhile."""
    log = Log(polled(result(0, "a")), polled(begun=2), polled(result(1, "a", "side-01"), begun=2))
    service = serve(log, 0.0)
    assert log.delivered == []
    assert sample(service, "open_parts") == 1


def test_in_silence_parts_time_out_but_not_while_there_is_more_to_read() -> None:
    log = Log(polled(result(0, "a")), polled(more=[0]), polled(result(1, "a", "side-01")))
    service = serve(log, 0.0, 60.0, 60.1)
    assert [parts for parts, _ in log.delivered] == [["a"]]
    assert sample(service, "parts_total", verdict="good", state="complete") == 1
    log = Log(polled(result(0, "a")), polled())
    service = serve(log, 0.0, 60.0)
    assert [parts for parts, _ in log.delivered] == [["a"]]
    assert sample(service, "parts_total", verdict="not_inspected", state="timed_out") == 1


def test_a_partition_that_is_read_first_does_not_leave_the_parts_of_another_behind() -> None:
    """As after an outage, when hundreds of verdicts wait in each."""
    tops = [result(n, f"{n}", "top-01", 2 * n) for n in range(20)]
    sides = [result(n, f"{n}", "side-01", 2 * n, partition=1) for n in range(20)]
    log = Log(polled(*tops, more=[1]), polled(*sides[:10], more=[1]), polled(*sides[10:]))
    service = serve(log, 0.0)
    assert [part for parts, _ in log.delivered for part in parts] == [f"{n}" for n in range(20)]
    assert sample(service, "parts_total", verdict="good", state="complete") == 20


def test_positions_are_committed_where_no_part_is_seen_for_long() -> None:
    log = Log(polled(result(0, None)), polled(result(1, None)), polled(), polled())
    serve(log, 0.0, 6.0, 12.0, 18.0)
    assert log.delivered == [([], {0: Settled(2), 1: Settled(0)})], "once, not again and again"


def test_it_is_ready_with_the_groups_consent() -> None:
    log = Log(polled())
    service = PartsService(log, SETTINGS)  # type: ignore[arg-type]
    with HealthServer(service.health, HttpSettings(port=0)) as server:
        assert get(server, "/readyz")[0] == 503
        with service.health.showing(log):
            assert get(server, "/readyz")[0] == 200
            log.standing = Standing("Kafka", "no answer for 6 s")
            assert get(server, "/readyz")[0] == 503
            assert "no answer" in get(server, "/healthz")[1]
            assert 'quarterturn_degraded{part="Kafka"} 1.0' in get(server, "/metrics")[1]
    service.leave()
    assert log.left


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "parts: nothing is set; say there which cameras see a part, as docs/parts.md does"),
        ({"parts": {"cameras": ["a"]}}, "transport.kafka is missing; parts are put together from the verdicts topic"),
        ({"parts": {"cameras": []}}, "parts.cameras"),
        ({"parts": {"cameras": ["a"], "window": 5}}, "did you mean 'window_s'?"),
    ],
    ids=str,
)
def test_what_is_missing_is_one_sentence(
    changes: dict[str, object], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "worker.yaml"
    folder = {"path": "pictures", "out": "out.jsonl"}
    settings = {
        "line": "line-1",
        "engine": {"path": "e"},
        "bank": {"file": {"path": "b"}},
        "transport": {"folder": folder},
    }
    config.write_text(yaml.safe_dump(settings | changes))
    assert main(["parts", "--config", str(config)]) == 1
    assert sentence in capsys.readouterr().err
