"""Show results to OPC UA's clients: python opcua.py [opc.tcp://HOST:PORT [SERVERS [TOPICS [GROUP]]]]

It needs `pip install confluent-kafka asyncua`. It is a server whose Results hold the last 100 results, by the names of
OPC 40100-1 (machine vision), and which raises a ResultReadyEvent for each:

    Objects / VisionSystem / ResultManagement / Results / RESULT ID / ResultId, IsPartial, ResultState, PartId, ...

Beside those names stand four of ours: Camera, Alert, Score and Threshold. Ids are text, not the structures of the
specification, and ResultContent is the event's JSON. Clients may read and subscribe, and change nothing; there is
neither encryption nor a login. After a restart Results are as before; the event comes for those alone that had none.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import nan
from typing import Any

from asyncua import ua
from asyncua.sync import Server, SyncNode
from events import Event, Reader, forward

KEPT = 100
STATES = {"verdict": 1, "alert": 1, "late": 3}
"""ResultStateDataType (OPC 40100-1, 12.19): completed; aborted, since nobody looked at a late frame."""
FIELDS = {
    **dict.fromkeys(("ResultId", "MeasId", "PartId", "ProductId", "JobId"), ua.VariantType.String),
    **dict.fromkeys(("InternalRecipeId", "InternalConfigurationId", "ResultContent"), ua.VariantType.String),
    **dict.fromkeys(("IsPartial", "IsSimulated"), ua.VariantType.Boolean),
    "ResultState": ua.VariantType.Int32,
    "CreationTime": ua.VariantType.DateTime,
    **dict.fromkeys(("Camera", "Alert"), ua.VariantType.String),
    **dict.fromkeys(("Score", "Threshold"), ua.VariantType.Double),
}


@dataclass(frozen=True)
class Result:
    """The values of FIELDS, and whether clients were told of it before."""

    values: dict[str, Any]
    again: bool


def result_of(event: Event) -> Result:
    if event.kind not in STATES:
        raise ValueError(f"it is no result, but of the type {event.attributes['type']}")
    data = event.data
    values = {name: data.get(name[0].lower() + name[1:]) for name in FIELDS} | {
        "IsPartial": False,
        "IsSimulated": bool(data["isSimulated"]),
        "ResultState": STATES[event.kind],
        "CreationTime": datetime.fromisoformat(str(data["creationTime"]).replace("Z", "+00:00")),
        "ResultContent": event.value.decode(),
        "Score": float(data.get("score", nan)),
        "Threshold": float(data.get("threshold", nan)),
    }
    for name in ("ResultId", "MeasId", "JobId", "Camera"):
        if not values[name]:
            raise ValueError(f"its {name} is missing")
    for name, kind in FIELDS.items():
        if kind == ua.VariantType.String and not isinstance(values[name], str | None):
            raise ValueError(f"its {name} is no text")
    return Result(values, event.again)


class VisionSystem:
    """The nodes below Objects, and the event."""

    def __init__(self, server: Server) -> None:
        self._space = server.register_namespace("urn:quarterturn:results")
        system = server.nodes.objects.add_object(self._space, "VisionSystem")
        self._results = system.add_object(self._space, "ResultManagement").add_folder(self._space, "Results")
        kind = server.nodes.base_event_type.add_object_type(self._space, "ResultReadyEventType")
        for name, of in FIELDS.items():
            kind.add_property(self._space, name, ua.get_default_value(of), of)
        self._ready = server.get_event_generator(kind)  # from the server's own node, to which every client subscribes
        self._ready.event.SourceName = "VisionSystem"
        self._kept: dict[str, SyncNode] = {}  # the oldest first

    def deliver(self, results: Sequence[Result]) -> None:
        for result in results:
            identity = result.values["ResultId"]
            if identity in self._kept:  # it came twice
                continue
            self._kept[identity] = self._add(identity, result.values)
            if len(self._kept) > KEPT:
                self._kept.pop(next(iter(self._kept))).delete(recursive=True)
            if not result.again:
                self._raise(result.values)

    def _add(self, identity: str, values: dict[str, Any]) -> SyncNode:
        node: SyncNode = self._results.add_object(self._name(identity), ua.QualifiedName(identity, self._space))
        for name, value in values.items():
            place = self._name(f"{identity}.{name}")
            node.add_variable(place, ua.QualifiedName(name, self._space), value, FIELDS[name])
        return node

    def _name(self, text: str) -> ua.NodeId:
        return ua.NodeId(ua.String(text), ua.Int16(self._space))

    def _raise(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self._ready.event, name, value)
        self._ready.event.Severity = 500 if values["Alert"] else 1
        self._ready.trigger(values["CreationTime"], f"{values['Camera']}: {values['Alert'] or 'good'}")


def main(
    address: str = "opc.tcp://0.0.0.0:4840",
    servers: str = "localhost:9092",
    topics: str = "verdicts",
    group: str = "opcua",
) -> None:
    for name in ("asyncua", "asyncio"):  # at its end a server tells of each client that is still connected
        logging.getLogger(name).setLevel(logging.CRITICAL)
    server = Server()
    server.set_endpoint(address)
    server.set_server_name("Quarterturn")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    server.aio_obj.allow_remote_admin(False)  # else whoever says that he is `admin` may change everything
    try:
        system = VisionSystem(server)
        server.start()
        # Twice: behind each transaction, which may hold one result alone, Kafka writes a record of its own.
        forward(Reader(servers, topics, group, replay=2 * KEPT), result_of, system.deliver)
    except OSError as error:
        sys.exit(f"{address}: {error}")
    finally:
        server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
