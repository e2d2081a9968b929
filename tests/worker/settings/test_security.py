"""TLS, users and secrets, against servers that insist on them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
import yaml
from pydantic import ValidationError

from quarterturn.worker.bankstore.redis import RedisBankStore
from quarterturn.worker.commands.main import main
from quarterturn.worker.contract.errors import ConfigError, UnavailableError
from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.settings.security import SaslSettings, Secret, TlsSettings
from quarterturn.worker.settings.worker import KafkaSettings, RedisStoreSettings, Topics, WorkerSettings
from quarterturn.worker.transport.kafka import connection
from quarterturn.worker.transport.kafka.producer import FramePublisher
from quarterturn.worker.transport.kafka.silences import SilenceWatcher
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests import examples
from tests.parts import NumpyEngine, bank_of
from tests.secure_services import (
    PASSWORD,
    PUBLISHER_RULES,
    WORKER_RULES,
    SecureKafka,
    SecureRedis,
    secure_kafka,
    secure_redis,
    unsigned_token,
)
from tests.worker.transport import librdkafka

DOCS = Path(__file__).parents[3] / "docs" / "security.md"


@pytest.fixture(scope="module")
def kafka() -> Iterator[SecureKafka]:
    with secure_kafka() as own:
        yield own


@pytest.fixture(scope="module")
def secured() -> Iterator[SecureRedis]:
    with secure_redis() as own:
        yield own


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_PASSWORD", PASSWORD)
    monkeypatch.setenv("WRONG_PASSWORD", "battery-staple")


def topics_of(name: str) -> Topics:
    return Topics(**{field: f"{name}-{field.replace('_', '-')}" for field in Topics.model_fields})


def as_worker(kafka: SecureKafka, topics: Topics, **changes: object) -> KafkaSettings:
    sasl = {"mechanism": "SCRAM-SHA-512", "username": "worker", "password": {"env": "THE_PASSWORD"}}
    ours = {
        "bootstrap_servers": kafka.users,
        "tls": {"ca": kafka.certificates.ca},
        "sasl": sasl,
        "group": topics.frames,
    }
    return KafkaSettings.model_validate({**ours, "topics": topics, **changes})


def inspect_one(settings: KafkaSettings) -> None:
    with closing(KafkaTransport(settings)) as transport:
        deadline = time.monotonic() + 30
        while not (frames := transport.poll(10, 0.5)):
            assert time.monotonic() < deadline, "no frame came"
        transport.deliver([examples.outcome(frame) for frame in frames])


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
def test_a_worker_with_the_documented_rights_serves_its_line(kafka: SecureKafka, mechanism: str) -> None:
    topics = topics_of(mechanism)
    kafka.create_line(topics, topics.frames)
    librdkafka.produce(kafka.admin, topics.frames, [b"good", b"defect", b"broken"])
    sasl = {"mechanism": mechanism, "username": "worker", "password": {"env": "THE_PASSWORD"}}
    inspect_one(as_worker(kafka, topics, sasl=sasl))
    assert len(librdkafka.consume(kafka.admin, topics.verdicts)) == 2
    assert len(librdkafka.consume(kafka.admin, topics.alerts)) == 1
    assert len(librdkafka.consume(kafka.admin, topics.dead_letters)) == 1


def test_a_worker_reads_silences_with_the_documented_rights_and_says_where_it_may_not(kafka: SecureKafka) -> None:
    topics = topics_of("silenced")
    kafka.create_line(topics, topics.frames)
    forbidden = topics.model_copy(update={"silences": topics.feedback})
    for asked, expected in ((topics, r"ok"), (forbidden, r".*Authorization.*")):
        with closing(SilenceWatcher(as_worker(kafka, asked))) as watcher:
            watcher.start()
            assert re.fullmatch(expected, watcher.state), watcher.state
            assert PASSWORD not in watcher.state


def test_who_may_write_feedback_alone_says_what_parts_are(
    kafka: SecureKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user of the tests may write alerts and not read feedback: these stand for feedback and frames here."""
    topics = topics_of("words")
    kafka.create_line(topics, topics.frames)
    asked = topics.model_copy(update={"feedback": topics.alerts, "frames": topics.feedback})
    document = {
        "line": "l",
        "engine": {"path": "e"},
        "bank": {"file": {"path": "b"}},
        "transport": {"kafka": as_worker(kafka, asked).model_dump(mode="json")},
    }
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(document))
    result_id = f"{asked.frames}:0:0"
    assert main(["feedback", result_id, "good", "--by", "Ilse", "--config", str(tmp_path / "worker.yaml")]) == 0
    said = capsys.readouterr().out
    assert re.search("the frame was not looked at: .*Authorization", said), said
    assert f"{result_id}: good, says Ilse" in said
    assert len(librdkafka.consume(kafka.admin, topics.alerts)) == 1


def test_a_certificate_in_place_of_a_password(kafka: SecureKafka) -> None:
    topics = topics_of("mutual")
    kafka.create_line(topics, topics.frames)
    librdkafka.produce(kafka.admin, topics.frames, [b"good"])
    mutual = {"bootstrap_servers": kafka.mutual, "sasl": None}
    inspect_one(as_worker(kafka, topics, tls=kafka.certificates.client(), **mutual))
    assert len(librdkafka.consume(kafka.admin, topics.verdicts)) == 1


def test_a_token_from_a_file(kafka: SecureKafka, tmp_path: Path) -> None:
    topics = topics_of("token")
    kafka.create_line(topics, topics.frames)
    librdkafka.produce(kafka.admin, topics.frames, [b"good"])
    (tmp_path / "token").write_text(unsigned_token("worker") + "\n")
    sasl = {"mechanism": "OAUTHBEARER", "token": {"file": tmp_path / "token"}}
    inspect_one(as_worker(kafka, topics, bootstrap_servers=kafka.token, sasl=sasl))
    assert len(librdkafka.consume(kafka.admin, topics.verdicts)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"tls": {"ca": "stranger"}},
        {"sasl": {"username": "worker", "password": {"env": "WRONG_PASSWORD"}}},
        {"sasl": {"username": "nobody", "password": {"env": "THE_PASSWORD"}}},
        {"sasl": {"mechanism": "OAUTHBEARER", "token": {"env": "WRONG_PASSWORD"}}},
        {"tls": None, "sasl": None},
    ],
    ids=["another authority", "wrong password", "unknown user", "wrong mechanism", "no TLS"],
)
def test_who_cannot_prove_himself_is_told_in_one_sentence(
    kafka: SecureKafka, wrong: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 3.0)
    wrong = {"tls": {"ca": kafka.certificates.stranger}} if wrong.get("tls") else wrong
    with pytest.raises(UnavailableError, match=rf"^Kafka at {kafka.users} cannot be used \(.*'tls', 'sasl'") as caught:
        KafkaTransport(as_worker(kafka, topics_of("scram"), **wrong))
    assert PASSWORD not in str(caught.value)
    assert "battery" not in str(caught.value)


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_a_broker_that_asks_for_a_certificate(kafka: SecureKafka, who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 3.0)
    tls = {"ca": kafka.certificates.ca} if who == "nobody" else kafka.certificates.client(who)
    with pytest.raises(UnavailableError, match=rf"^Kafka at {kafka.mutual} cannot be used \(.*'tls', 'sasl'"):
        KafkaTransport(as_worker(kafka, topics_of("mutual"), bootstrap_servers=kafka.mutual, sasl=None, tls=tls))


def test_a_worker_may_not_publish_frames(kafka: SecureKafka) -> None:
    topics = topics_of("rights")
    kafka.create_line(topics, topics.frames)
    with closing(FramePublisher(as_worker(kafka, topics))) as publisher:
        publisher.publish(b"top-01", {}, b"frame")
        with pytest.raises(UnavailableError, match=r"was not stored in 'rights-frames' .*Authorization"):
            publisher.flush()


def redis_as(user: str, secured: SecureRedis, **changes: object) -> RedisBankStore:
    ours = {
        "url": secured.url,
        "username": user,
        "password": {"env": "THE_PASSWORD"},
        "tls": {"ca": secured.certificates.ca},
    }
    return RedisBankStore(RedisStoreSettings.model_validate({**ours, **changes}))


def test_a_worker_reads_banks_and_changes_none(secured: SecureRedis) -> None:
    bank = bank_of(NumpyEngine(dimensions=2), count=3)
    with closing(redis_as("publisher", secured)) as publisher, closing(redis_as("worker", secured)) as worker:
        published = publisher.publish("line-1", bank)
        assert worker.current("line-1") == published
        assert worker.versions("line-1") == [published]
        assert worker.load("line-1", published.version).version == bank.version
        assert worker.look().version
        worker.wait("line-1", 0.3)
        for change in (lambda: worker.publish("line-1", bank), lambda: worker.activate("line-1", published.version)):
            with pytest.raises(UnavailableError, match=r"^Redis at 127.0.0.1:\d+ cannot be used \(.*permissions"):
                change()
        publisher.activate("line-1", published.version)
        assert publisher.versions("line-1") == [published]


def test_a_redis_that_looks_at_certificates(secured: SecureRedis) -> None:
    with closing(redis_as("worker", secured, tls=secured.certificates.client())) as store:
        store.versions("line-1")
    with (
        closing(redis_as("worker", secured, tls=secured.certificates.client("stranger"))) as store,
        pytest.raises(UnavailableError, match=r"^Redis at 127.0.0.1:\d+ cannot be used \("),
    ):
        store.versions("line-1")


def test_a_publisher_reaches_banks_alone(secured: SecureRedis) -> None:
    client = redis.Redis.from_url(
        secured.url, username="publisher", password=PASSWORD, ssl_ca_certs=str(secured.certificates.ca)
    )
    with client, pytest.raises(redis.exceptions.NoPermissionError):
        client.set("something else", b"x")


@pytest.mark.parametrize(
    "wrong",
    [{"tls": {"ca": "stranger"}}, {"password": {"env": "WRONG_PASSWORD"}}, {"username": None, "password": None}],
    ids=["another authority", "wrong password", "nobody"],
)
def test_redis_tells_in_one_sentence(secured: SecureRedis, wrong: dict[str, object]) -> None:
    wrong = {"tls": {"ca": secured.certificates.stranger}} if "tls" in wrong else wrong
    with (
        closing(redis_as("worker", secured, **wrong)) as store,
        pytest.raises(UnavailableError, match=r"^Redis at 127.0.0.1:\d+ cannot be used \(") as caught,
    ):
        store.current("line-1")
    assert PASSWORD not in str(caught.value)


def test_the_documented_rules_are_the_tested_ones() -> None:
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    assert WORKER_RULES in text
    assert PUBLISHER_RULES in text


def test_a_secret_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    in_file, in_environment = Secret(file=tmp_path / "password"), Secret(env="THE_PASSWORD")
    assert in_file.read() == in_environment.read() == PASSWORD
    for secret in (in_file, in_environment):
        assert PASSWORD not in f"{secret!r} {secret} {secret.model_dump_json()}"


def test_a_secret_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^the environment variable NOWHERE should hold a secret, but is empty; fill it"
    ):
        Secret(env="NOWHERE").read()
    with pytest.raises(ConfigError, match=r"absent: the secret cannot be read \(No such file.*correct path or perm"):
        Secret(file=tmp_path / "absent").read()
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match="empty should hold a secret, but is empty; fill it"):
        Secret(file=tmp_path / "empty").read()
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        Secret(file=tmp_path / "binary").read()


def test_a_secret_in_the_settings_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "worker.yaml"
    path.write_text(
        "line: l\nengine: {path: e}\nbank: {redis: {password: hunter2}}\n"
        "transport: {kafka: {tls: {}, sasl: {username: me, password: hunter2}}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_settings(path, WorkerSettings)
    assert "hunter2" not in str(caught.value)
    lines = str(caught.value).splitlines()
    asked = "write where the secret is, {env: NAME} or {file: PATH}, not the secret"
    assert lines == [
        f"{path}: bank.redis.password: {asked}",
        f"{path}: transport.kafka.sasl.password: {asked}",
    ]


def test_a_url_with_a_password_is_not_shown() -> None:
    assert "hunter2" not in repr(RedisStoreSettings(url="redis://:hunter2@localhost:6379/0"))


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (Secret, "set exactly one of 'env' and 'file'"),
        (lambda: Secret(env="A", file=Path("b")), "set exactly one of 'env' and 'file'"),
        (lambda: TlsSettings(key=Path("k")), "'certificate' and 'key' go together; set both or none"),
        (lambda: SaslSettings(username="me"), "SCRAM-SHA-512 takes 'username' and 'password'"),
        (lambda: SaslSettings(mechanism="OAUTHBEARER", username="me"), "OAUTHBEARER takes 'token' alone"),
        (
            lambda: KafkaSettings(sasl=SaslSettings(username="me", password=Secret(env="A"))),
            r"'sasl' needs 'tls': .*; write tls: \{ca: PATH\}",
        ),
        (lambda: RedisStoreSettings(tls=TlsSettings()), "'tls' needs a url that begins with rediss://"),
    ],
)
def test_what_does_not_go_together(make: type, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        make()


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "ca.crt"
    sentence = rf"tls.ca: {re.escape(str(gone))} cannot be read \(No such file or directory\); correct path or permiss"
    with pytest.raises(ConfigError, match=rf"^transport\.kafka\.{sentence}"):
        KafkaTransport(KafkaSettings(tls=TlsSettings(ca=gone)))
    with pytest.raises(ConfigError, match=rf"^bank\.redis\.{sentence}"):
        RedisBankStore(RedisStoreSettings(url="rediss://localhost", tls=TlsSettings(ca=gone)))
