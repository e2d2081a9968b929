"""The topic of silences that are declared while workers run."""

from __future__ import annotations

import json
import logging
import threading

from pydantic import ValidationError

from quarterturn.worker.contract.errors import ConfigError, DataError, QuarterturnError
from quarterturn.worker.contract.silence import Silence
from quarterturn.worker.messages.data import fault_of
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.compacted import CompactedTopic

log = logging.getLogger(__name__)

_POLL_S = 0.5
_AGAIN_S = 30.0  # between tries to reach a topic that is not there, or a broker


class SilenceTopic(CompactedTopic[Silence]):
    """Writes silences, and reads those that anybody wrote, see CompactedTopic."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings, settings.topics.silences, _read)

    def publish(self, silence: Silence) -> None:
        """Declare it, in place of one that is there for the same camera and product; returns when it is stored.

        Raises:
            UnavailableError: it is not.
        """
        self.write(_key(silence.camera, silence.product), silence.model_dump_json().encode())

    def end(self, camera: str | None, product: str | None) -> None:
        """End the silence of this camera and product, if there is one.

        Raises:
            UnavailableError: that is not stored.
        """
        self.write(_key(camera, product), None)


class SilenceWatcher:
    """Knows the silences of the topic, kept up by a thread: from `start` on those that are there already.

    A line without this topic has no such silences; a broker that is away leaves those that are known.

    Attributes:
        state: "ok", or a sentence on why silences are not read.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.state = "ok"
        self._settings = settings
        self._said = ""
        self._known: tuple[Silence, ...] = ()
        self._topic: SilenceTopic | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="silence-watcher", daemon=True)

    def start(self) -> None:
        """Read the silences, then watch for new ones."""
        self._look()
        self._thread.start()

    def known(self) -> tuple[Silence, ...]:
        """Those that were declared last, over or not. Any thread may ask."""
        return self._known

    def close(self) -> None:
        """End the watching."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * _POLL_S)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            if self._topic is None:
                self._stopping.wait(_AGAIN_S)
            self._look()
        self._drop()

    def _look(self) -> None:
        """Read what is new; after a fault with a new connection."""
        try:
            if self._topic is None:
                self._topic = SilenceTopic(self._settings)
                self._topic.words()
            else:
                self._topic.poll(_POLL_S)
            self._known = self._topic.latest
            self._enter("ok", "the topic is read")
        except ConfigError:
            self._known = ()
            self._enter("ok", f"there is no topic '{self._settings.topics.silences}'; those of the settings count")
        except QuarterturnError as error:
            self._drop()
            self._enter(str(error), str(error))
        except Exception as error:  # noqa: BLE001 - a thread's boundary: shown in `state`, and tried again
            self._drop()
            self._enter(*2 * [f"failing: {type(error).__name__}: {error}"])

    def _drop(self) -> None:
        if self._topic is not None:
            self._topic.close()
            self._topic = None

    def _enter(self, state: str, sentence: str) -> None:
        """Show `state`, and say `sentence` once."""
        if sentence != self._said:
            log.log(logging.INFO if state == "ok" else logging.WARNING, "silences: %s", sentence)
        self.state, self._said = state, sentence


def _key(camera: str | None, product: str | None) -> bytes:
    """One silence at a time for each: a new one takes the place of the last."""
    return json.dumps([camera, product]).encode()


def _read(_: bytes | None, value: bytes) -> Silence:
    try:
        return Silence.model_validate_json(value)
    except ValidationError as error:
        raise DataError(f"{fault_of(error)}; write it by docs/schemas/silence.schema.json") from None
