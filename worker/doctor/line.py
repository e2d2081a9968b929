"""Engine, bank store, bank and Kafka: opened as the worker would open them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

from rich.filesize import decimal

from quarterturn.worker.bankstore.versions import require_active
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import QuarterturnError, UnavailableError
from quarterturn.worker.contract.manifest import short
from quarterturn.worker.doctor.check import Check, failure
from quarterturn.worker.doctor.promise import promise
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.inspection.agreement import disagreements
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.pictures.sets import list_pictures
from quarterturn.worker.runtime.assemble import open_engine, open_store
from quarterturn.worker.settings.parts import PartsSettings
from quarterturn.worker.settings.worker import (
    FolderSettings,
    KafkaSettings,
    RedisStoreSettings,
    TransportSettings,
    WorkerSettings,
)
from quarterturn.worker.transport.folder import done_in

_NO_PARTS = "write 'parts: null' into the settings"
_PATIENCE_S = 3.0  # with a Redis that does not answer


def engine_and_bank(settings: WorkerSettings) -> Iterator[Check]:
    """Whether the engine loads, the bank store answers, and its bank fits the engine and the settings."""
    with ExitStack() as stack:
        engine: Engine | None = None
        try:
            engine = stack.enter_context(closing(open_engine(settings.engine)))
            found = f"{settings.engine.path} loads, hash {short(engine.hash)} ({engine.target})"
            yield Check("engine", "ok", found)
        except QuarterturnError as error:
            yield failure("engine", error)
        redis = Check("Redis", "skipped", "not needed: banks are in a folder")
        if settings.bank.redis is not None:
            redis = _redis(settings.bank.redis)
        yield redis
        if redis.status == "failure":
            yield Check("bank", "skipped", "not looked at: Redis has it")
        else:
            yield from _bank(settings, engine)


def frames(settings: TransportSettings) -> Iterator[Check]:
    """Whether frames can come in and results go out."""
    if settings.kafka is not None:
        yield from _kafka(settings.kafka)
        return
    assert settings.folder is not None  # TransportSettings holds exactly one
    yield Check("Kafka", "skipped", "not needed: frames come from a folder")
    yield from _folder(settings.folder)


def parts(settings: WorkerSettings) -> Iterator[Check]:
    """Whether results of parts can be made, where they are asked for."""
    if settings.parts is None:
        return
    if settings.transport.kafka is None:
        yield Check(
            "parts", "failure", "frames come from a folder, so there are no verdicts to put together", _NO_PARTS
        )
        return
    try:
        yield _parts(settings, settings.parts, settings.transport.kafka)
    except UnavailableError:
        yield Check("parts", "skipped", "not looked at: Kafka has their topic")


def _parts(settings: WorkerSettings, parts: PartsSettings, kafka: KafkaSettings) -> Check:
    from quarterturn.worker.transport.kafka.topics import create_command, look_at_topics

    topic = kafka.topics.parts
    if look_at_topics(kafka, [topic]).missing:
        return Check("parts", "failure", f"there is no {topic}", create_command(kafka, topic))
    named = sorted({*parts.cameras, *(camera for cameras in parts.products.values() for camera in cameras)})
    found = f"{', '.join(named)} see a part, its result goes to {topic}"
    if settings.cameras and (unknown := [camera for camera in named if camera not in settings.cameras]):
        return Check("parts", "warning", found, f"correct {', '.join(unknown)} there, or list it in 'cameras'")
    return Check("parts", "ok", found)


def _folder(settings: FolderSettings) -> Iterator[Check]:
    """Whether there are pictures, and the out file is theirs or not there yet; whether it can be written: `machine`."""
    try:
        pictures = list_pictures(settings.path)
        yield Check("frames", "ok", f"{len(pictures)} pictures in {settings.path}")
    except QuarterturnError as error:
        yield failure("frames", error)
        return
    try:
        done, _ = done_in(settings, pictures)
        yield Check("results", "ok", f"{settings.out}, {len(done)} of {len(pictures)} pictures are done")
    except QuarterturnError as error:
        yield failure("results", error)
    except OSError as error:
        yield Check("results", "failure", f"{settings.out}: cannot be read ({error.strerror})", "correct 'out'")


def _kafka(settings: KafkaSettings) -> Iterator[Check]:
    """Whether the broker answers, has the topics, and lets the largest frame through."""
    from quarterturn.worker.transport.kafka.topics import create_command, look_at_topics

    address, names = settings.bootstrap_servers, settings.topics.of_a_worker
    yield _checksums()
    try:
        topics = look_at_topics(settings, names)
    except UnavailableError as error:
        yield failure("Kafka", error)
        yield Check("topics", "skipped", "not looked at: Kafka has them")
        return
    yield Check("Kafka", "ok", f"{address} answers")
    if topics.missing:
        create = "; ".join(create_command(settings, topic) for topic in topics.missing)
        yield Check("topics", "failure", f"there is no {', '.join(topics.missing)}", create)
    else:
        yield Check("topics", "ok", ", ".join(names))
    if settings.topics.frames not in topics.missing:
        yield _frame_size(settings, topics.max_frame_bytes)
        yield _compression(settings, topics.compression)


def _bank(settings: WorkerSettings, engine: Engine | None) -> Iterator[Check]:
    try:
        with closing(open_store(settings.bank)) as store:
            active = require_active(store, settings.line)
            bank = store.load(settings.line, active.version)
    except QuarterturnError as error:
        yield failure("bank", error)
        return
    found = f"{short(active.version)}, pushed at {active.pushed_at}, holds {', '.join(bank.products)}"
    yield _fit(settings, engine, bank, found)
    yield promise(settings, bank)


def _fit(settings: WorkerSettings, engine: Engine | None, bank: Bank, found: str) -> Check:
    if engine is None:
        return Check("bank", "skipped", f"{found}, but is not compared: the engine does not load")
    try:
        inspector = Inspector(engine, settings.line, settings.overkill, settings.cameras, settings.thresholds)
        with closing(inspector):
            inspector.use(bank)
    except QuarterturnError as error:
        return failure("bank", error)
    if different := disagreements(bank, settings.overkill, settings.cameras):
        return Check("bank", "warning", f"{found}, and fits the engine", "; ".join(different))
    return Check("bank", "ok", f"{found}, and fits the engine")


def _redis(settings: RedisStoreSettings) -> Check:
    from quarterturn.worker.bankstore.redis import RedisBankStore

    try:
        brief = settings.model_copy(update={"timeout_s": min(settings.timeout_s, _PATIENCE_S)})
        with closing(RedisBankStore(brief)) as store:
            facts = store.look()
    except QuarterturnError as error:
        return failure("Redis", error)
    limit = f"up to {decimal(facts.max_bytes)}" if facts.max_bytes else "without a limit"
    found = f"{facts.address} answers, version {facts.version}, memory {limit}, policy {facts.policy}"
    if not facts.policy.startswith("allkeys"):
        return Check("Redis", "ok", found)
    fix = (
        "write 'maxmemory-policy noeviction' into redis.conf, and run: redis-cli CONFIG SET maxmemory-policy noeviction"
    )
    return Check("Redis", "warning", f"{found}: banks are thrown away when the memory is full", fix)


def _frame_size(settings: KafkaSettings, max_bytes: int | None) -> Check:
    wanted, topic = settings.max_frame_bytes, settings.topics.frames
    if max_bytes is None:
        return Check("frame size", "skipped", f"not looked at: the broker does not tell us the settings of {topic}")
    if max_bytes >= wanted:
        return Check("frame size", "ok", f"{topic} takes up to {max_bytes:,} bytes")
    found = f"{topic} takes up to {max_bytes:,} bytes, transport.kafka.max_frame_bytes is {wanted:,}"
    fix = (
        f"lower the setting, or run: kafka-configs.sh --bootstrap-server {settings.bootstrap_servers} --alter "
        f"--entity-type topics --entity-name {topic} --add-config max.message.bytes={wanted}"
    )
    return Check("frame size", "warning", found, fix)


def _checksums() -> Check:
    """Whether kafka-python has the package that makes its checksums fast."""
    from quarterturn.worker.transport.kafka.checksums import COST, PACKAGE, are_slow

    if are_slow():
        return Check("checksums", "warning", COST, f"pip install {PACKAGE}")
    return Check("checksums", "ok", f"computed by package '{PACKAGE}'")


def _compression(settings: KafkaSettings, stored: str | None) -> Check:
    """Whether frames can be read as the frames topic keeps them."""
    from quarterturn.worker.transport.kafka.codecs import CODECS, PACKAGE, lacking

    topic, unreadable = settings.topics.frames, lacking()
    if stored == "uncompressed":
        return Check("compression", "ok", f"{topic} holds frames uncompressed, whatever cameras send")
    if not unreadable:
        return Check("compression", "ok", f"frames compressed with {', '.join(CODECS.values())} are read")
    found = f"package '{PACKAGE}' is missing: frames compressed with {', '.join(unreadable)} become dead letters"
    fix = (
        f"pip install {PACKAGE}, or run: kafka-configs.sh --bootstrap-server {settings.bootstrap_servers} --alter "
        f"--entity-type topics --entity-name {topic} --add-config compression.type=uncompressed"
    )
    if stored in unreadable:
        return Check("compression", "failure", f"{found}, and {topic} compresses all with {stored}", fix)
    return Check("compression", "warning", found, fix)
