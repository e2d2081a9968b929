"""Explains what the line has recorded: the frame is fetched again, and judged by the engine and bank of its verdict."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from quarterturn.worker.bankstore.base import BankStore
from quarterturn.worker.bankstore.versions import load_active
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import ConfigError, DataError, FrameError, MismatchError, UnavailableError
from quarterturn.worker.contract.manifest import short
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.explain.explain import explain
from quarterturn.worker.explain.explanation import Explanation
from quarterturn.worker.messages.data import fault_of
from quarterturn.worker.messages.events import ResultData, position_of
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.settings.worker import CameraSettings, KafkaSettings, WorkerSettings

_RECENT = 5_000  # results of each partition that are read in any case, for the verdicts on other frames
_EARLIER = (100_000, None)  # and if the one that is asked for is not among them; None: all that there are


@dataclass(frozen=True)
class Line:
    """A line whose frames are to be explained: its settings, the engine they name, and its banks."""

    settings: WorkerSettings
    engine: Engine
    store: BankStore

    def result(self, result_id: str) -> Explanation:
        """Why the frame of a recorded result was judged as it was.

        Raises:
            DataError: it is no id of a result; the frame, its verdict or the bank is gone; nobody judged the frame.
            MismatchError: it was judged by another engine.
            ConfigError: the settings name no Kafka.
            UnavailableError: Kafka or the bank store does not answer.
        """
        position = position_of(result_id)
        kafka = self._kafka()
        found, past = _recorded(kafka, result_id)
        recorded = None if found is None else _verdict(result_id, found)
        frame = _fetched(kafka, position)
        if recorded is None:
            bank = self._active()
            note = (
                "its recorded verdict is gone from the topic of verdicts, so there is nothing to compare with; here it "
                "is judged by the line's active bank"
            )
            return _noted(self._explain(frame, bank, None, past), note)
        return self._explain(frame, self._bank_of(recorded), recorded, past)

    def file(self, path: Path, camera: str | None = None, product: str | None = None) -> Explanation:
        """How the line's active bank judges a picture file.

        Args:
            path: the picture.
            camera: whose region and bit_depth apply; None: those that the bank was fitted with.
            product: what the picture shows; None: the camera's products, or any.

        Raises:
            DataError: the file cannot be read or inspected, or the line has no bank.
            MismatchError: the bank is of another engine.
            ConfigError: the settings name no such camera.
            UnavailableError: the bank store does not answer.
        """
        if camera is not None:
            self.settings.camera(camera)
        bank = self._active()
        headers = {"camera": camera or path.stem, **({"product": product} if product else {})}
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        encoded = {name: value.encode(errors="replace") for name, value in headers.items()}
        frame = Frame(Position(str(path), 0, 0), None, encoded, data)
        made_for = CameraSettings(region=bank.manifest.region, bit_depth=bank.manifest.bit_depth)
        past, note = self._past()
        judged = self._explain(frame, bank, None, past, camera=None if camera else made_for, path=path)
        explanation = replace(judged, camera=camera, file=path.name)
        return _noted(explanation, note) if note else explanation

    def _explain(
        self,
        frame: Frame,
        bank: Bank,
        recorded: ResultData | None,
        past: Sequence[ResultData],
        *,
        camera: CameraSettings | None = None,
        path: Path | None = None,
    ) -> Explanation:
        try:
            return explain(
                self.engine,
                bank,
                frame,
                self.settings.overkill,
                thresholds=self.settings.thresholds,
                camera=camera or self.settings.cameras.get(frame.info().camera),
                recorded=recorded,
                past=past,
            )
        except FrameError as error:
            raise DataError(f"{path or frame.position}: cannot be judged: {error}") from error

    def _kafka(self) -> KafkaSettings:
        return self.settings.require_kafka("results are explained from Kafka; name a picture FILE instead")

    def _active(self) -> Bank:
        return load_active(self.store, self.settings.line)

    def _bank_of(self, recorded: ResultData) -> Bank:
        """The bank that judged a result, if the engine here is that of it, too."""
        settings, version = self.settings, recorded.internal_configuration_id
        if recorded.job_id != settings.line:
            raise DataError(
                f"{recorded.result_id}: is a result of the line '{recorded.job_id}', but the settings are of "
                f"'{settings.line}'; give the settings of its line with --config"
            )
        if recorded.internal_recipe_id != self.engine.hash:
            raise MismatchError(
                f"{recorded.result_id}: was judged by engine {short(recorded.internal_recipe_id)}, but the one "
                f"here is {short(self.engine.hash)} ({self.engine.target}); name that one under 'engine'"
            )
        if version not in [kept.version for kept in self.store.versions(settings.line)]:
            raise DataError(
                f"{recorded.result_id}: was judged by bank {short(version)}, which the line no longer keeps; push "
                "its file again, or keep more versions with bank.redis.keep"
            )
        return self.store.load(settings.line, version)

    def _past(self) -> tuple[list[ResultData], str | None]:
        """The recent verdicts of the line, or why there are none; a picture can be explained without."""
        if self.settings.transport.kafka is None:
            return [], None
        try:
            return _recorded(self.settings.transport.kafka, None)[1], None
        except (UnavailableError, ConfigError) as error:
            return [], f"the line's verdicts were not read: {error}"


def _recorded(kafka: KafkaSettings, result_id: str | None) -> tuple[dict[str, Any] | None, list[ResultData]]:
    """The data of one result, wherever it is in the topics, and the recent verdicts of all frames."""
    from quarterturn.worker.transport.kafka.results import ResultReader

    found, past = None, []
    with closing(ResultReader(kafka, _RECENT)) as reader:
        for data in reader.until_now():
            if data.get("resultId") == result_id:
                found = data
            with contextlib.suppress(ValidationError):  # late, a dead letter, or of another version
                past.append(ResultData.model_validate(data))
    for last in _EARLIER if found is None and result_id is not None else ():
        with closing(ResultReader(kafka, last)) as reader:
            found = next((data for data in reader.until_now() if data.get("resultId") == result_id), None)
        if found is not None:
            break
    return found, past


def _verdict(result_id: str, data: dict[str, Any]) -> ResultData:
    """The verdict in the data of a result.

    Raises:
        DataError: it is none: nobody judged the frame, so there is nothing to explain.
    """
    if "ageMs" in data:
        raise DataError(
            f"{result_id}: nothing to explain: the frame came {data['ageMs']:.0f} ms after it was taken, later than "
            f"the {data.get('maxAgeMs')} ms that its camera may take, so nobody looked at it"
        )
    if "message" in data:
        raise DataError(f"{result_id}: nothing to explain: the frame could not be inspected ({data['message']})")
    try:
        return ResultData.model_validate(data)
    except ValidationError as error:
        raise DataError(
            f"{result_id}: its recorded verdict is of another version of Quarterturn ({fault_of(error)}); use that to "
            "explain it"
        ) from error


def _fetched(kafka: KafkaSettings, position: Position) -> Frame:
    from quarterturn.worker.transport.kafka.archive import FrameArchive

    with closing(FrameArchive(kafka)) as archive:
        frame = archive.fetch([position])[position]
    if isinstance(frame, DataError):
        raise frame
    return frame


def _noted(explanation: Explanation, note: str) -> Explanation:
    return replace(explanation, notes=(*explanation.notes, note))
