"""The checks of engine, bank and services, against a real Kafka and a real Redis."""

from __future__ import annotations

import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.bankstore.redis import RedisBankStore
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.calibration import Promise
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.manifest import EngineManifest, TargetManifest, write_manifest
from quarterturn.worker.doctor import line
from quarterturn.worker.doctor.check import Check
from quarterturn.worker.settings.worker import (
    FolderSettings,
    KafkaSettings,
    RedisStoreSettings,
    TransportSettings,
    WorkerSettings,
)
from quarterturn.worker.transport.folder import FolderTransport
from tests import examples
from tests.conftest import CreateTopics
from tests.parts import NumpyEngine, bank_of, good_part, png
from tests.worker.transport import librdkafka

MakeSettings = Callable[..., WorkerSettings]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> NumpyEngine:
    engine = NumpyEngine()
    monkeypatch.setattr(line, "open_engine", lambda _: engine)
    return engine


@pytest.fixture(scope="module")
def bank() -> Bank:
    return bank_of(NumpyEngine())


@pytest.fixture
def settings(tmp_path: Path) -> MakeSettings:
    """Settings of a line of its own, with the bank in a folder."""
    name = f"line-{uuid.uuid4().hex[:8]}"

    def make(**changes: Any) -> WorkerSettings:
        document = {
            "line": name,
            "engine": {"path": "engine"},
            "bank": {"file": {"path": str(tmp_path / "banks")}},
            "transport": {"folder": {"path": "pictures", "out": "out.jsonl"}},
            "overkill": 0.02,
        }
        return WorkerSettings.model_validate(document | changes)

    return make


@pytest.fixture
def policy(redis_url: str) -> Iterator[Callable[[str], None]]:
    """Sets Redis' eviction policy for one test."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        before = client.config_get("maxmemory-policy")["maxmemory-policy"]
        yield lambda name: client.config_set("maxmemory-policy", name)
        client.config_set("maxmemory-policy", before)


@pytest.fixture
def silent() -> Iterator[str]:
    """`host:port` of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def look(settings: WorkerSettings) -> dict[str, Check]:
    return {check.name: check for check in line.engine_and_bank(settings)}


def look_at_kafka(**settings: Any) -> dict[str, Check]:
    transport = TransportSettings(kafka=KafkaSettings(**settings))
    return {check.name: check for check in line.frames(transport)}


def test_an_engine_and_a_bank_that_fit(engine: NumpyEngine, bank: Bank, settings: MakeSettings, tmp_path: Path) -> None:
    asked = settings()
    pushed = FileBankStore(tmp_path / "banks").publish(asked.line, bank)
    found = f"{bank.version[:12]}, pushed at {pushed.pushed_at}, holds ring, and fits the engine"
    assert look(asked) == {
        "engine": Check("engine", "ok", "engine loads, hash numpy-engine (numpy)"),
        "Redis": Check("Redis", "skipped", "not needed: banks are in a folder"),
        "bank": Check("bank", "ok", found),
        "promise": Check("promise", "ok", f"ring: {Promise.of(120, 0.02).sentence}"),
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"overkill": 0.05}, "overkill is 0.05, but the bank was fitted for 0.02"),
        (
            {"cameras": {"top-01": {"region": {"x": 1, "y": 2, "width": 8, "height": 9}}}},
            "cameras.top-01.region is 8x9 pixels at (1, 2), but the bank was fitted with the whole picture",
        ),
    ],
)
def test_a_bank_that_was_fitted_otherwise(
    *, engine: NumpyEngine, bank: Bank, settings: MakeSettings, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    asked = settings(**changes)
    FileBankStore(tmp_path / "banks").publish(asked.line, bank)
    check = look(asked)["bank"]
    assert check.status == "warning"
    assert check.fix.startswith(told)


def test_a_bank_of_another_engine(engine: NumpyEngine, settings: MakeSettings, tmp_path: Path) -> None:
    asked = settings()
    FileBankStore(tmp_path / "banks").publish(asked.line, bank_of(NumpyEngine(name="another"), count=30))
    check = look(asked)["bank"]
    assert check.status == "failure"
    assert "was made by engine another (numpy), but the engine here is numpy-engine (numpy)" in check.found
    assert check.fix == "fit the bank again through this engine"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"overkill": 0.001}, "product 'ring': an overkill of 0.100% needs 999 calibration pictures"),
        ({"cameras": {"top-01": {"products": ["screw"]}}}, "cameras.top-01.products: 'screw' is not in bank"),
        ({"thresholds": {"screw": 2.0}}, "thresholds: 'screw' is no product of the bank"),
    ],
)
def test_a_bank_that_the_worker_would_refuse(
    *, engine: NumpyEngine, bank: Bank, settings: MakeSettings, tmp_path: Path, changes: dict[str, Any], found: str
) -> None:
    asked = settings(**changes)
    FileBankStore(tmp_path / "banks").publish(asked.line, bank)
    check = look(asked)["bank"]
    assert check.status == "failure"
    assert found in f"{check.found}; {check.fix}"


def test_a_promise_that_cannot_be_kept_says_how_many_good_pictures_are_missing(
    engine: NumpyEngine, settings: MakeSettings, tmp_path: Path
) -> None:
    asked = settings(overkill=0.05, engine={"path": str(tmp_path / "engine")})
    FileBankStore(tmp_path / "banks").publish(asked.line, bank_of(engine, ("bracket", "ring"), count=14))
    others = "fit a bank with a folder of 25 good pictures as 'calibration', or set overkill: 0.0667"
    found = look(asked)["promise"]
    needed = "an overkill of 5% needs 19 calibration pictures of each product, but bracket has 14, ring has 14"
    assert found == Check("promise", "failure", needed, others)  # the engine's folder is not there to say the holdout
    write_engine_manifest(tmp_path / "engine", holdout=0.25)
    found = look(asked)["promise"]
    assert found.fix == f"add 28 good pictures to those of training, train, build and fit again, or {others}"
    # 97 pictures: 25 held out, of which 19 calibrate; 69 are the fewest of which 14 calibrate
    fixed = settings(overkill=0.05, thresholds={"bracket": 1.0, "ring": 1.0})
    assert look(fixed)["promise"] == Check("promise", "skipped", "all thresholds are fixed ones")


def write_engine_manifest(folder: Path, holdout: float) -> None:
    folder.mkdir()
    manifest = EngineManifest(
        spec=NumpyEngine().spec,
        model="m",
        products=("ring",),
        holdout=holdout,
        targets={"openvino": TargetManifest(precision="float32", files=("model.xml",), parity=1.0)},
        files={"model.xml": "0" * 64},
        created_at="2026-01-01T00:00:00Z",
    )
    write_manifest(folder, manifest)


def test_a_line_without_a_bank(engine: NumpyEngine, settings: MakeSettings) -> None:
    asked = settings()
    assert look(asked)["bank"] == Check(
        "bank", "failure", f"line '{asked.line}' has no bank", "push one with 'quarterturn bank push'"
    )


def test_an_engine_that_does_not_load(
    bank: Bank, settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> NumpyEngine:
        raise DataError("engine: the plan is of TensorRT 10.3; build it again on this machine")

    monkeypatch.setattr(line, "open_engine", fail)
    asked = settings()
    FileBankStore(tmp_path / "banks").publish(asked.line, bank)
    found = look(asked)
    assert found["engine"] == Check(
        "engine", "failure", "engine: the plan is of TensorRT 10.3", "build it again on this machine"
    )
    assert found["bank"].status == "skipped"
    assert found["bank"].found.endswith("holds ring, but is not compared: the engine does not load")


def test_an_engine_that_is_not_there(settings: MakeSettings, tmp_path: Path) -> None:
    check = look(settings(engine={"path": f"{tmp_path}/engine"}))["engine"]
    assert check.status == "failure"
    assert check.found == f"{tmp_path}/engine/manifest.json: cannot be read (No such file or directory)"
    assert check.fix == "make the folder with 'quarterturn build'"


@pytest.mark.parametrize(("name", "status"), [("noeviction", "ok"), ("volatile-lru", "ok"), ("allkeys-lru", "warning")])
def test_redis_and_what_it_does_when_it_is_full(
    *,
    engine: NumpyEngine,
    bank: Bank,
    settings: MakeSettings,
    redis_url: str,
    policy: Callable[[str], None],
    name: str,
    status: str,
) -> None:
    asked = settings(bank={"redis": {"url": redis_url, "snapshot": None}})
    RedisBankStore(RedisStoreSettings(url=redis_url)).publish(asked.line, bank)
    policy(name)
    found = look(asked)
    check = found["Redis"]
    assert check.status == status
    assert check.found.startswith(f"{redis_url.split('/')[2]} answers, version ")
    assert f"policy {name}" in check.found
    assert check.fix.endswith("CONFIG SET maxmemory-policy noeviction") == (status == "warning")
    assert found["bank"].status == "ok"


def test_a_redis_that_is_not_there(
    engine: NumpyEngine, settings: MakeSettings, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "_PATIENCE_S", 0.1)
    started = time.monotonic()
    for address, why, fix in (
        ("127.0.0.1:1", "Connection refused", "check that it runs and that bank.redis.url is right"),
        (silent, "no answer within 0.1 s", "see whether it hangs, or raise bank.redis.timeout_s"),
    ):
        found = look(settings(bank={"redis": {"url": f"redis://me:secret@{address}/0", "timeout_s": 600}}))
        assert found["Redis"].status == "failure"
        assert found["Redis"].found.startswith(f"{address} cannot be used (")
        assert why in found["Redis"].found
        assert found["Redis"].fix == fix
        assert found["bank"] == Check("bank", "skipped", "not looked at: Redis has it")
        assert "secret" not in str(found)
    assert time.monotonic() - started < 60


def test_a_password_that_breaks_the_url_is_not_shown(engine: NumpyEngine, settings: MakeSettings) -> None:
    check = look(settings(bank={"redis": {"url": "redis://:sec#ret@localhost:6379/0"}}))["Redis"]
    assert check.status == "failure"
    assert check.found.startswith("bank.redis.url: ")
    assert "%23" in check.fix
    assert "sec" not in check.found.replace("second", "")


def test_kafka_with_all_topics(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    assert look_at_kafka(bootstrap_servers=kafka_bootstrap, topics=topics) == {
        "checksums": Check("checksums", "ok", "computed by package 'crc32c'"),
        "Kafka": Check("Kafka", "ok", f"{kafka_bootstrap} answers"),
        "topics": Check("topics", "ok", ", ".join(topics.of_a_worker)),
        "frame size": Check("frame size", "ok", f"{topics.frames} takes up to 33,554,432 bytes"),
        "compression": Check("compression", "ok", "frames compressed with gzip, snappy, lz4, zstd are read"),
    }


def test_topics_that_are_missing(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1).model_copy(update={"frames": "no-frames", "alerts": "no-alerts"})
    found = look_at_kafka(bootstrap_servers=kafka_bootstrap, topics=topics)
    assert list(found) == ["checksums", "Kafka", "topics"]
    assert (found["topics"].status, found["topics"].found) == ("failure", "there is no no-frames, no-alerts")
    create = f"kafka-topics.sh --bootstrap-server {kafka_bootstrap} --create --topic"
    assert found["topics"].fix == (
        f"{create} no-frames --partitions 4 --config compression.type=uncompressed "
        f"--config max.message.bytes=33619968; {create} no-alerts --partitions 1"
    )


@pytest.mark.parametrize(
    ("stored", "installed", "status"),
    [
        ("producer", True, "ok"),
        ("zstd", True, "ok"),
        ("uncompressed", True, "ok"),
        ("uncompressed", False, "ok"),
        ("gzip", False, "warning"),  # a camera may still ask for another one, until the broker compresses anew
        ("producer", False, "warning"),
        ("snappy", False, "failure"),
        ("lz4", False, "failure"),
        ("zstd", False, "failure"),
    ],
)
def test_whether_compressed_frames_can_be_read(
    kafka_bootstrap: str,
    create_topics: CreateTopics,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stored: str,
    installed: bool,
    status: str,
) -> None:
    topics = create_topics(1)
    librdkafka.configure(kafka_bootstrap, topics.frames, compression_type=stored)
    if not installed:
        monkeypatch.setitem(sys.modules, "cramjam", None)
    check = look_at_kafka(bootstrap_servers=kafka_bootstrap, topics=topics)["compression"]
    assert check.status == status
    if status != "ok":
        assert check.found.startswith(
            "package 'cramjam' is missing: frames compressed with snappy, lz4, zstd become dead letters"
        )
        assert check.fix.startswith("pip install cramjam, or run: kafka-configs.sh")
        assert check.fix.endswith(f"--entity-name {topics.frames} --add-config compression.type=uncompressed")
    assert (f"compresses all with {stored}" in check.found) == (status == "failure")


def test_a_line_without_fast_checksums_can_run_but_is_warned_of(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterturn.worker.transport.kafka.connection.ANSWER_S", 0.5)
    monkeypatch.setitem(sys.modules, "crc32c", None)
    found = look_at_kafka(bootstrap_servers=silent)  # a broker that is not there hides nothing of it
    assert found["checksums"] == Check(
        "checksums",
        "warning",
        "package 'crc32c' is missing, so each MiB of frames costs 0.2 to 0.6 s of CPU instead of less than 1 ms",
        "pip install crc32c",
    )


def test_a_frames_topic_that_takes_too_little(kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    librdkafka.configure(kafka_bootstrap, topics.frames, max_message_bytes=1_000_000)
    kafka = {"bootstrap_servers": kafka_bootstrap, "topics": topics}
    assert look_at_kafka(**kafka, max_frame_bytes=1_000_000)["frame size"].status == "ok"
    check = look_at_kafka(**kafka, max_frame_bytes=1_000_001)["frame size"]
    assert check.status == "warning"
    assert check.found == f"{topics.frames} takes up to 1,000,000 bytes, transport.kafka.max_frame_bytes is 1,000,001"
    assert check.fix.endswith(
        f"kafka-configs.sh --bootstrap-server {kafka_bootstrap} --alter --entity-type topics "
        f"--entity-name {topics.frames} --add-config max.message.bytes=1000001"
    )


def test_a_kafka_that_is_not_there(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterturn.worker.transport.kafka.connection.ANSWER_S", 0.5)
    started = time.monotonic()
    for address in ("127.0.0.1:1", silent):
        found = look_at_kafka(bootstrap_servers=address)
        assert found["Kafka"].status == "failure"
        assert found["Kafka"].found.startswith(f"{address} cannot be used (")
        assert found["Kafka"].fix.startswith("start the broker, or correct 'bootstrap_servers'")
        assert found["topics"] == Check("topics", "skipped", "not looked at: Kafka has them")
    assert time.monotonic() - started < 60


def test_frames_from_a_folder(settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    out = tmp_path / "out.jsonl"
    transport = settings(transport={"folder": {"path": f"{tmp_path}/pictures", "out": out}}).transport
    skipped, frames = line.frames(transport)
    assert skipped == Check("Kafka", "skipped", "not needed: frames come from a folder")
    assert (frames.name, frames.status) == ("frames", "failure")
    (tmp_path / "pictures" / "one.png").write_bytes(png(good_part(np.random.default_rng(0))))
    _, frames, results = line.frames(transport)
    assert frames == Check("frames", "ok", f"1 pictures in {tmp_path}/pictures")
    assert results == Check("results", "ok", f"{out}, 0 of 1 pictures are done")
    assert not out.exists()


def test_an_out_file_that_the_worker_would_not_take(settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(b"good")
    out = tmp_path / "out.jsonl"

    def results(out: Path) -> Check:
        transport = settings(transport={"folder": {"path": f"{tmp_path}/pictures", "out": out}}).transport
        return list(line.frames(transport))[-1]

    out.write_text("a diary\n")
    fix = "choose another file for 'out'"
    assert results(out) == Check("results", "failure", f"{out}:1: is no result of quarterturn", fix)
    assert results(tmp_path) == Check(
        "results", "failure", f"{tmp_path}: cannot be read (Is a directory)", "correct 'out'"
    )
    out.unlink()
    with closing(FolderTransport(FolderSettings(path=tmp_path / "pictures", out=out))) as transport:
        transport.deliver([examples.outcome(frame) for frame in transport.poll(1, 0)])
    with out.open("ab") as lines:
        lines.write(b'{"kind": "ver')  # a worker may be at it
    written = out.read_bytes()
    assert results(out) == Check("results", "ok", f"{out}, 1 of 1 pictures are done")
    assert out.read_bytes() == written


CAMERAS = ("top-01", "side-01")


def look_at_parts(settings: WorkerSettings) -> list[Check]:
    return list(line.parts(settings))


def test_a_line_without_parts_hears_nothing_of_them(settings: MakeSettings) -> None:
    assert look_at_parts(settings()) == []


def test_parts_need_a_line_with_verdicts(settings: MakeSettings) -> None:
    (check,) = look_at_parts(settings(parts={"cameras": CAMERAS}))
    assert (check.status, check.fix) == ("failure", "write 'parts: null' into the settings")


def test_parts_need_their_topic(settings: MakeSettings, kafka_bootstrap: str, create_topics: CreateTopics) -> None:
    topics = create_topics(1)
    kafka = {"bootstrap_servers": kafka_bootstrap, "topics": topics.model_dump()}
    made = settings(parts={"cameras": CAMERAS, "products": {"x": ["z-01"]}}, transport={"kafka": kafka})
    found = f"side-01, top-01, z-01 see a part, its result goes to {topics.parts}"
    assert look_at_parts(made) == [Check("parts", "ok", found)]
    made = settings(parts={"cameras": CAMERAS}, transport={"kafka": kafka}, cameras={"top-01": {}})
    (check,) = look_at_parts(made)
    assert (check.status, check.fix) == ("warning", "correct side-01 there, or list it in 'cameras'")
    made = settings(
        parts={"cameras": CAMERAS}, transport={"kafka": kafka | {"topics": topics.model_dump() | {"parts": "no-parts"}}}
    )
    (check,) = look_at_parts(made)
    assert (check.status, check.found) == ("failure", "there is no no-parts")
    assert check.fix.startswith(f"kafka-topics.sh --bootstrap-server {kafka_bootstrap} --create --topic no-parts ")
