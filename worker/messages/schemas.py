"""The JSON Schemas of what is published."""

from __future__ import annotations

from typing import Any

from quarterturn.worker.messages.alarms import Drift, Episode
from quarterturn.worker.messages.events import Data, DeadLetterData, LateData, ResultData

_MODELS: dict[str, type[Data]] = {
    "result": ResultData,
    "late": LateData,
    "dead-letter": DeadLetterData,
    "episode": Episode,
    "drift": Drift,
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schemas of the published data, by file name."""
    return {
        f"{name}.schema.json": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **model.model_json_schema(by_alias=True, mode="serialization"),
        }
        for name, model in _MODELS.items()
    }
