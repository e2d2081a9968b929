"""The doctor beside a real engine, bank, Kafka and Redis, as a script would run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import CreateTopics
from tests.lines import LINE, PRODUCTS, MadeLine, quarterturn


def doctor(config: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "quarterturn", "doctor", "--config", str(config), "--json", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_it_finds_what_the_worker_would_find(
    line: MadeLine, kafka_bootstrap: str, redis_url: str, create_topics: CreateTopics, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "line": LINE,
        "engine": {"path": str(line.engine)},
        "bank": {"redis": {"url": redis_url, "snapshot": str(tmp_path / "state")}},
        "transport": {"kafka": {"bootstrap_servers": kafka_bootstrap, "topics": create_topics(1).model_dump()}},
        "overkill": 0.05,
        "http": {"port": 0},
    }
    config = tmp_path / "worker.yaml"
    config.write_text(yaml.safe_dump(settings))
    quarterturn("bank", "push", str(line.banks[0]), "--config", str(config))

    code, checks = doctor(config)
    assert code == 0
    assert {name: check["status"] for name, check in checks.items() if check["status"] != "ok"} == {"GPU": "skipped"}
    assert checks["engine"]["found"].startswith(f"{line.engine} loads, hash ")
    assert checks["bank"]["found"].endswith(f"holds {', '.join(sorted(PRODUCTS))}, and fits the engine")

    graph = next(line.engine.glob("*.onnx"))
    before = graph.read_bytes()
    graph.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        code, checks = doctor(config)
    finally:
        graph.write_bytes(before)
    assert code == 1
    assert checks["engine"]["status"] == "failure"
    assert checks["engine"]["fix"] == "the file was changed or damaged, build the folder again"
    assert checks["bank"]["status"] == "skipped"
