"""The JSON Schemas of what is published, as they lie in docs/schemas/."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from quarterturn.worker.contract.silence import Silence
from quarterturn.worker.messages.alarms import Drift, Episode
from quarterturn.worker.messages.data import Data
from quarterturn.worker.messages.events import DeadLetterData, LateData, ResultData
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.messages.parts import PartData

_WRITTEN_HERE: dict[str, type[Data]] = {
    "result": ResultData,
    "late": LateData,
    "dead-letter": DeadLetterData,
    "episode": Episode,
    "drift": Drift,
    "part": PartData,
}
_WRITTEN_BY_ANYBODY: dict[str, type[BaseModel]] = {  # who may leave out what has a default
    "feedback": Feedback,
    "silence": Silence,
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schemas of the published data, by file name."""
    ours = {name: _schema(model, "serialization") for name, model in _WRITTEN_HERE.items()}
    others = {name: _schema(model, "validation") for name, model in _WRITTEN_BY_ANYBODY.items()}
    return {f"{name}.schema.json": schema for name, schema in (ours | others).items()}


def _schema(model: type[BaseModel], mode: Literal["serialization", "validation"]) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(by_alias=True, mode=mode),
    }
