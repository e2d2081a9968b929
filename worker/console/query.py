"""What a page asks the index for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Review = Literal["open", "done", "any"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which results: None is any. `lane` "any" is every lane, `after` seconds since 1970."""

    lane: str | None = None
    camera: str | None = None
    product: str | None = None
    kind: str | None = None
    after: float | None = None
    review: Review = "any"


@dataclass(frozen=True, slots=True)
class Page:
    """Which of them: those older than (`at`, `id`), or those that changed `since`; at most `limit`."""

    before: tuple[float, str] | None = None
    since: int | None = None
    limit: int = 200


def conditions(chosen: Filter, page: Page) -> tuple[str, dict[str, Any]]:
    """SQL's condition and its values: the condition is made of our own words alone, values are bound."""
    parts = ["1"]
    values: dict[str, Any] = {"limit": page.limit}
    if chosen.lane == "any":
        parts.append("lane IN ('defect', 'wrong', 'unusable')")
    for column in ("lane", "camera", "product", "kind"):
        value = getattr(chosen, column)
        if value is not None and value != "any":
            parts.append(f"{column} = :{column}")
            values[column] = value
    if chosen.after is not None:
        parts.append("at >= :after")
        values["after"] = chosen.after
    if page.since is not None:  # also those that were judged meanwhile: a page shows them and must hear of it
        parts.append("seq > :since")
        values["since"] = page.since
    elif chosen.review != "any":
        parts.append("verdict IS NULL" if chosen.review == "open" else "verdict IS NOT NULL")
    if page.before is not None:
        parts.append("(at, id) < (:at, :id)")
        values["at"], values["id"] = page.before
    return " AND ".join(parts), values
