"""examples/opcua.py, on a real Kafka, seen by a client of OPC UA."""

from __future__ import annotations

import json
import math
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from asyncua import ua
from asyncua.sync import Client, SyncNode, ThreadLoop

from quarterturn.worker.messages.events import ResultData
from tests.api.sinks import TIMEOUT_S, Feed, broken, of_kind, result, verdict_event, wait_for
from tests.examples import frame, late, with_episode
from tests.services import free_ports

KEPT = 100
FIELDS = {  # Table 123 of OPC 40100-1 1.0, and what is ours
    *("ResultId", "IsPartial", "IsSimulated", "ResultState", "MeasId", "PartId", "InternalRecipeId", "ProductId"),
    *("InternalConfigurationId", "JobId", "CreationTime", "ResultContent"),
    *("Camera", "Alert", "Score", "Threshold"),
}


@pytest.fixture
def address() -> str:
    return f"opc.tcp://127.0.0.1:{free_ports(1)[0]}"


class Plc:
    """A client that knows the server's address alone."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._space = client.get_namespace_index("urn:quarterturn:results")
        self._told: queue.Queue[Any] = queue.Queue()

    def node(self, *names: str) -> SyncNode:
        return self.client.nodes.objects.get_child([f"{self._space}:{name}" for name in names])

    def results(self) -> list[str]:
        return [node.read_browse_name().Name for node in self.folder().get_children()]

    def folder(self) -> SyncNode:
        return self.node("VisionSystem", "ResultManagement", "Results")

    def read(self, identity: str) -> dict[str, Any]:
        (found,) = [one for one in self.folder().get_children() if one.read_browse_name().Name == identity]
        return {node.read_browse_name().Name: node.read_value() for node in found.get_children()}

    def subscribe(self) -> None:
        kind = self.client.nodes.base_event_type.get_child([f"{self._space}:ResultReadyEventType"])
        self.client.create_subscription(50, self).subscribe_events(evtypes=kind)

    def event_notification(self, event: Any) -> None:
        self._told.put(event)

    def status_change_notification(self, _status: Any) -> None:
        """The server has ended."""

    def told(self, count: int) -> list[Any]:
        return [self._told.get(timeout=TIMEOUT_S) for _ in range(count)]

    def told_more(self) -> bool:
        return not self._told.empty()


@contextmanager
def plc(address: str, user: str | None = None) -> Iterator[Plc]:
    loop = ThreadLoop()
    loop.start()
    try:
        client = Client(address, tloop=loop)
        if user:
            client.set_user(user)
            client.set_password("whatever")
        wait_for(lambda: _connected(client))
        yield Plc(client)
        client.disconnect()
    finally:
        loop.stop()


def _connected(client: Client) -> bool | None:
    try:
        client.connect()
    except OSError:  # the server is not up yet
        return None
    return True


def values_of(data: ResultData) -> dict[str, Any]:
    """What a client is to see, field by field."""
    return {
        "ResultId": data.result_id,
        "MeasId": data.meas_id,
        "PartId": data.part_id,
        "ProductId": data.product_id,
        "JobId": data.job_id,
        "InternalRecipeId": data.internal_recipe_id,
        "InternalConfigurationId": data.internal_configuration_id,
        "IsPartial": False,
        "IsSimulated": data.is_simulated,
        "ResultState": 1,
        "CreationTime": datetime.strptime(data.creation_time, "%Y-%m-%dT%H:%M:%S.%f%z"),
        "Camera": data.camera,
        "Alert": data.alert,
        "Score": data.score,
        "Threshold": data.threshold,
    }


def test_a_client_finds_results_reads_them_and_is_told_of_each(feed: Feed, address: str) -> None:
    good, bad = result(0), result(1, "defect", part_id="Bügel 7", product_id="bracket", is_simulated=True)
    with feed.program("opcua.py", address) as running, plc(address) as client:
        client.subscribe()
        feed.send(of_kind("verdict", good), of_kind("verdict", bad))
        events = client.told(2)
        assert client.results() == [good.data.result_id, bad.data.result_id]
        for outcome, event in zip((good, bad), events, strict=True):
            read, expected = client.read(outcome.data.result_id), values_of(outcome.data)
            assert set(read) == FIELDS
            assert json.loads(read.pop("ResultContent")) == json.loads(of_kind("verdict", outcome).value)
            assert read == expected
            assert {name: getattr(event, name) for name in expected} == expected
            assert event.Time == expected["CreationTime"]
        assert [event.Message.Text for event in events] == ["top-01: good", "top-01: defect"]
        assert [event.Severity for event in events] == [1, 500]
        assert running.stop() == []


def test_a_frame_that_nobody_looked_at_is_aborted(feed: Feed, address: str) -> None:
    outcome = late(frame(0))
    with feed.program("opcua.py", address) as running, plc(address) as client:
        client.subscribe()
        feed.send(of_kind("late", outcome))
        (event,) = client.told(1)
        read = client.read(outcome.data.result_id)
        assert running.stop() == []
    assert (read["ResultState"], event.ResultState) == (3, 3)
    assert math.isnan(read["Score"])
    assert read["InternalRecipeId"] is None


def test_the_last_hundred_results_are_kept(feed: Feed, address: str) -> None:
    sent = [result(number) for number in range(KEPT + 7)]
    feed.send(*[of_kind("verdict", one) for one in sent])
    with feed.program("opcua.py", address) as running, plc(address) as client:
        feed.wait_until_read()
        assert client.results() == [one.data.result_id for one in sent[-KEPT:]]
        assert running.stop() == []


def test_what_comes_twice_is_there_and_told_once(feed: Feed, address: str) -> None:
    one, other = result(0), result(1)
    with feed.program("opcua.py", address) as running, plc(address) as client:
        client.subscribe()
        feed.send(of_kind("verdict", one), of_kind("verdict", one), of_kind("verdict", other))
        assert [event.ResultId for event in client.told(2)] == [one.data.result_id, other.data.result_id]
        feed.wait_until_read()
        assert client.results() == [one.data.result_id, other.data.result_id]
        assert not client.told_more()
        assert running.stop() == []


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_after_a_restart_results_are_as_before_and_only_news_is_told(feed: Feed, address: str, how: str) -> None:
    before, between, after = ([result(number) for number in numbers] for numbers in ((0, 1), (2, 3), (4,)))
    with feed.program("opcua.py", address) as running:
        feed.send(*[of_kind("verdict", one) for one in before])
        feed.wait_until_read()
        getattr(running, how)()
    with feed.program("opcua.py", address) as running, plc(address) as client:
        client.subscribe()
        feed.wait_until_read()
        feed.send(*[of_kind("verdict", one) for one in (*between, *after)])
        told = [event.ResultId for event in client.told(3)]
        assert told == [one.data.result_id for one in (*between, *after)]
        assert client.results() == [one.data.result_id for one in (*before, *between, *after)]
        assert running.stop() == []


def test_after_a_restart_all_hundred_are_there_again(feed: Feed, address: str) -> None:
    """Also where each came in a transaction of its own, so that only every other record is a result."""
    sent = [result(number) for number in range(KEPT)]
    feed.send_in_transactions(*[of_kind("verdict", one) for one in sent])
    for _ in range(2):
        with feed.program("opcua.py", address) as running, plc(address) as client:
            wait_for(lambda: len(client.results()) == KEPT or None)
            wait_for(lambda: feed.position() >= 2 * KEPT - 1 or None)
            assert running.stop() == []


@pytest.mark.parametrize("user", [None, "admin"])
def test_a_client_changes_nothing(feed: Feed, address: str, user: str | None) -> None:
    feed.send(verdict_event(0))
    with feed.program("opcua.py", address) as running, plc(address, user) as client:
        feed.wait_until_read()
        (found,) = client.folder().get_children()
        (score,) = [node for node in found.get_children() if node.read_browse_name().Name == "Score"]
        with pytest.raises(ua.UaStatusCodeError, match=r"NotWritable|UserAccessDenied"):
            score.write_value(0.0)
        with pytest.raises(ua.UaStatusCodeError, match="UserAccessDenied"):
            client.client.delete_nodes([found], recursive=True)[1][0].check()
        with pytest.raises(ua.UaStatusCodeError, match="UserAccessDenied"):
            client.folder().add_object(1, "another")
        assert len(client.results()) == 1
        assert running.stop() == []


def test_bad_events_are_skipped_and_said(feed: Feed, address: str) -> None:
    feed.send(verdict_event(0))
    bad = feed.put_bad()
    wrong: list[dict[str, Any]] = [
        {"resultId": None},
        {"resultId": 7},
        {"camera": None},
        {"partId": {"number": 7}},
        {"score": "high"},
        {"creationTime": "yesterday"},
        {"creationTime": 17},
    ]
    for data in wrong:
        feed.put(*broken(1, **data))
    feed.send(of_kind("episode", with_episode(result(2, "defect"), "raised")), verdict_event(3))
    count = bad + len(wrong) + 1
    with feed.program("opcua.py", address) as running, plc(address) as client:
        feed.wait_until_read()
        assert len(client.results()) == 2
        said = running.stop()
    assert [line.split(":")[0] for line in said] == [f"{feed.topic}[0]@{at} is skipped" for at in range(1, count + 1)]


def test_a_port_that_is_taken_is_said(feed: Feed, address: str) -> None:
    with feed.program("opcua.py", address), plc(address), feed.program("opcua.py", address) as second:
        (line,) = second.ended(1)
    assert "already in use" in line
