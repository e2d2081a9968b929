"""A row as the page gets it."""

from __future__ import annotations

import json
from typing import Any

from quarterturn.worker.console.figures import ratio_of
from quarterturn.worker.console.rows import Row, place_of, words_of


def shown(row: Row) -> dict[str, Any]:
    """A result in JSON: names as in the published events where these have them; `ratio` is the score in thresholds."""
    return {
        "id": row["id"],
        "seq": row["seq"],
        "at": row["at"],
        "camera": row["camera"],
        "product": row["product"],
        "looksLike": row["looks_like"],
        "part": row["part"],
        "kind": row["kind"],
        "lane": row["lane"],
        "ratio": ratio_of(row),
        "score": row["score"],
        "threshold": row["threshold"],
        "pValue": row["p_value"],
        "reason": row["reason"],
        **words_of(row["code"], row["reason"]),
        "simulated": bool(row["simulated"]),
        "bank": row["bank"],
        "tookMs": row["took_ms"],
        "ageMs": row["age_ms"],
        "hasHeat": bool(row["has_heat"]),
        "frame": str(place_of(row)),
        "verdict": row["verdict"],
        "by": row["reviewed_by"],
        "reviewedAt": row["reviewed_at"],
        "really": row["really"],
        "region": json.loads(row["region"]) if row["region"] else None,
    }
