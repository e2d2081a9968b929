"""Verdicts of a real worker, explained: the same frame, engine and bank, and so the same score."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from confluent_kafka import Producer

from quarterturn.worker.bankstore.redis import RedisBankStore
from quarterturn.worker.commands.main import main
from quarterturn.worker.contract.errors import QuarterturnError
from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.explain import results as module
from quarterturn.worker.explain.results import Line
from quarterturn.worker.fitting.bank_file import read_bank_file
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.settings.worker import Topics, WorkerSettings
from quarterturn.worker.transport.kafka.results import ResultReader
from tests.conftest import CreateTopics
from tests.end_to_end.test_stream import stop, wait_until, worker
from tests.lines import MadeLine, quarterturn
from tests.parts import good_part, png, scratched_part
from tests.worker.transport import librdkafka


def publish(bootstrap: str, topics: Topics) -> None:
    """Good, scratched, of another product, turned, black, cut off, and one that comes too late."""
    rng = np.random.default_rng(5)
    turned = np.ascontiguousarray(np.rot90(good_part(rng), 2))
    pictures = [*(good_part(rng) for _ in range(6)), scratched_part(rng), good_part(rng, "bracket"), turned]
    frames = [(png(picture), "top-01") for picture in [*pictures, good_part(rng) * 0]]
    frames += [(png(good_part(rng))[:-40], "top-01"), (png(good_part(rng)), "slow")]
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for number, (data, camera) in enumerate(frames):
        headers = {
            "camera": camera,
            "product": "ring",
            "part_id": f"SN-{number}",
            "captured_at": "2020-01-01T00:00:00Z",
        }
        producer.produce(topics.frames, value=data, key=camera, headers=headers)
    producer.flush()


class Plant:
    """A line whose worker has judged some frames; `results` are by what was published."""

    def __init__(self, config: Path, topics: Topics, bootstrap: str, made: MadeLine) -> None:
        self.config, self.topics, self.bootstrap, self.made = config, topics, bootstrap, made
        self.settings = load_settings(config, WorkerSettings)
        assert self.settings.transport.kafka is not None
        with closing(ResultReader(self.settings.transport.kafka, None)) as reader:
            self.results: list[dict[str, Any]] = sorted(
                reader.until_now(), key=lambda data: int(data["frame"]["offset"])
            )

    def fault(self, result_id: str, **changes: Any) -> str:
        """The sentence in which an explanation is refused."""
        with closing(open_engine(self.settings.engine)) as engine:
            assert self.settings.bank.redis is not None
            with closing(RedisBankStore(self.settings.bank.redis)) as store:
                line = replace(Line(self.settings, engine, store), **changes)
                with pytest.raises(QuarterturnError) as caught:
                    line.result(result_id)
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def plant(line: MadeLine, kafka_bootstrap: str, redis_url: str, create_topics: CreateTopics, tmp_path: Path) -> Plant:
    topics, config = create_topics(1), tmp_path / "worker.yaml"
    settings = {
        "line": tmp_path.name,
        "engine": {"path": str(line.engine), "threads": 1},
        "bank": {"redis": {"url": redis_url, "snapshot": None}},
        "transport": {
            "kafka": {"bootstrap_servers": kafka_bootstrap, "group": tmp_path.name, "topics": topics.model_dump()}
        },
        "overkill": 0.05,
        "cameras": {"slow": {"max_age_ms": 1000}},
        "http": None,
    }
    config.write_text(yaml.safe_dump(settings))
    quarterturn("bank", "push", str(line.banks[0]), "--config", str(config))
    publish(kafka_bootstrap, topics)
    with worker(config, "worker") as process:
        wait_until(lambda: len(Plant(config, topics, kafka_bootstrap, line).results) == 12, "all results")
        stop(process)
    return Plant(config, topics, kafka_bootstrap, line)


def explained(plant: Plant, result_id: str, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["explain", result_id, "--config", str(plant.config), "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_result_is_explained_by_the_very_frame_engine_and_bank(
    plant: Plant, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after another bank was pushed, and where it is no recent result."""
    quarterturn("bank", "push", str(plant.made.banks[1]), "--config", str(plant.config))
    *verdicts, dead, late = plant.results
    assert {verdict["alert"] for verdict in verdicts} >= {None, "defect", "wrong_product", "unusable_picture"}
    for verdict in verdicts:
        found = explained(plant, verdict["resultId"], capsys)
        assert (found["same_score"], found["notes"]) == (True, [])
        assert found["score"] == pytest.approx(verdict["score"], rel=1e-3)
        assert sum(part["points"] for part in found["parts"]) + found["emptiness"] == pytest.approx(
            found["score"], rel=1e-4
        )
        assert (found["alert"], found["reason"]) == (verdict["alert"], verdict["reason"])
        assert (found["part_id"], found["camera"]) == (verdict["partId"], "top-01")
        assert found["bank"] == verdict["internalConfigurationId"] == read_bank_file(plant.made.banks[0]).version
        assert found["engine"] == verdict["internalRecipeId"]
        assert found["places"][0]["nearest"][0]["picture"]["name"].endswith(".png")
        if verdict["alert"] != "unusable_picture":
            past = found["turning"]["past"]
            assert past["frames"] == len(verdicts)
            assert past["alerts"] == sum(one["alert"] is not None for one in verdicts)
            assert past["unusable"] == sum(one["alert"] == "unusable_picture" for one in verdicts)

    monkeypatch.setattr(module, "_RECENT", 2)  # with marks of transactions among them
    assert explained(plant, verdicts[0]["resultId"], capsys)["same_score"] is True

    html = tmp_path / "e.html"
    assert main(["explain", verdicts[6]["resultId"], "--config", str(plant.config), "--html", str(html)]) == 0
    assert "Judged again it scores the same" in capsys.readouterr().out
    assert verdicts[6]["resultId"] in html.read_text(encoding="utf-8")

    assert main(["explain", late["resultId"], "--config", str(plant.config)]) == 1
    assert re.search(
        r"nothing to explain: the frame came \d+ ms after it was taken, later than the 1000\.0 ms that its camera may "
        r"take, so nobody looked at it\n$",
        capsys.readouterr().err,
    )
    assert main(["explain", dead["resultId"], "--config", str(plant.config)]) == 1
    assert "nothing to explain: the frame could not be inspected (the picture ends early" in capsys.readouterr().err


def test_what_is_gone_is_said_in_one_sentence_each(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (result["resultId"] for result in plant.results[:2])
    with closing(open_engine(plant.settings.engine)) as engine:
        other = _Named(engine, "f" * 64)
        assert re.search(
            r"was judged by engine \w+, but the one here is ffffffffffff \(openvino\); name that one under 'engine'$",
            plant.fault(first, engine=other),
        )
    assert "is a result of the line '" in plant.fault(
        first, settings=plant.settings.model_copy(update={"line": "another"})
    )

    assert plant.settings.bank.redis is not None
    keep_two = plant.settings.bank.redis.model_copy(update={"keep": 2})
    with closing(RedisBankStore(keep_two)) as store:
        bank = read_bank_file(plant.made.banks[1])
        for number in range(3):
            manifest = bank.manifest.model_copy(update={"created_at": f"2026-01-0{number + 1}T00:00:00Z"})
            store.publish(plant.settings.line, replace(bank, manifest=manifest))
    assert re.search(
        r"was judged by bank \w{12}, which the line no longer keeps; push its file again, or keep more versions with "
        r"bank\.redis\.keep$",
        plant.fault(first),
    )

    librdkafka.delete_before(plant.bootstrap, plant.topics.verdicts, -1)
    found = explained(plant, second, capsys)
    assert found["same_score"] is None
    assert "its recorded verdict is gone from the topic of verdicts" in found["notes"][0]
    assert found["turning"]["past"] is None

    librdkafka.delete_before(plant.bootstrap, plant.topics.frames, 1)
    assert "the frame is gone; retention has deleted it" in plant.fault(first)
    assert explained(plant, second, capsys)["sentence"].startswith(("PASSED", "ALERT"))


class _Named:
    """An engine under another hash."""

    def __init__(self, engine: Any, name: str) -> None:
        self.spec, self.target, self.hash, self.embed = engine.spec, engine.target, name, engine.embed

    def close(self) -> None:
        pass
