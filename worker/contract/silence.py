"""Times without alerts, as settings and operators declare them."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from quarterturn.worker.contract.settings import Settings
from quarterturn.worker.contract.times import parse_time


def _time(value: Any) -> datetime:
    """YAML reads some times by itself, and leaves others as text; without a zone they are UTC."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    if isinstance(value, date):
        raise ValueError(f"{value} is a day; write a time, such as {value}T14:00:00Z")
    return parse_time(str(value))


Time = Annotated[datetime, BeforeValidator(_time)]


class Silence(Settings):
    """No alerts of a camera, or of a product, or of both together, for a time; verdicts go on."""

    camera: str | None = Field(default=None, min_length=1, description="None: all")
    product: str | None = Field(default=None, min_length=1, description="declared for a frame, else seen; None: all")
    starts: Time = Field(description="ISO 8601; without a zone UTC")
    ends: Time = Field(description="as `starts`; from then on alerts are published again")
    reason: str = Field(min_length=1, description="for whoever wonders why nothing comes")
    by: str | None = Field(default=None, min_length=1, description="who says so")

    @model_validator(mode="after")
    def _is_a_time_of_something(self) -> Silence:
        if self.camera is None and self.product is None:
            raise ValueError("name a 'camera', a 'product' or both; a line is not silenced as a whole")
        if self.ends <= self.starts:
            raise ValueError(f"it ends ({self.ends.isoformat()}) before it starts ({self.starts.isoformat()})")
        return self

    def covers(self, camera: str, product: str, time: datetime) -> bool:
        """Whether it is about a frame of `camera` with `product`, taken at `time` (with a zone)."""
        return self.camera in (None, camera) and self.product in (None, product) and self.starts <= time < self.ends
