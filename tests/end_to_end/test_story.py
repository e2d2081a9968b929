"""The story of docs/operators.md as its one command: real Kafka and Redis, two workers, the published network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quarterturn.worker.contract.calibration import Promise
from quarterturn.worker.contract.chance import most_rejected
from tests.lines import quarterturn

pytestmark = pytest.mark.timeout(900)  # it exports the published network, which a busy machine takes its time for

SMALL = ("train.data.side=128", "train.projection.steps=0", "train.head.steps=0", "build.targets=[openvino]")


def test_an_operator_teaches_the_line_a_new_gloss(
    kafka_bootstrap: str, redis_url: str, tmp_path: Path, record_property: Any
) -> None:
    settings = [f"--set={one}" for one in (*SMALL, "build.views=1")]
    services = ("--kafka", kafka_bootstrap, "--redis", redis_url)
    quarterturn("demo", "--story", "--out", str(tmp_path / "out"), *services, *settings)

    story = json.loads((tmp_path / "out" / "story.json").read_text())
    print(story)
    for name in ("learned_s", "swapped_s"):
        record_property(name, story[name])  # reported; no test fails for a clock
    assert story["overkill_gloss"] >= 0.25
    assert story["confirmed"] == 20
    assert story["regression"] >= 10
    promise = Promise.of(19, story["promised"])  # the fewest that can make it
    assert 120 * story["overkill_after"] <= most_rejected(120, promise.pictures, promise.rank, 0.05)
    assert story["overkill_after"] < story["overkill_gloss"] / 2
    assert story["found_after"] >= story["found_before"] - 0.1
