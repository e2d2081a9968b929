"""Why a result is as it is: its frame judged again, by the engine and the bank that it names."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from quarterturn.worker.bankstore.base import BankStore
from quarterturn.worker.console.faults import BusyError
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.explain.results import Line
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.settings.worker import WorkerSettings

_KEPT = 64
_MAX_WAITING = 8  # it takes the engine; whoever steps through a list is not waited for


class Explaining:
    """Explains results in a thread of its own, one after the other. The engine is opened when it is first asked for."""

    def __init__(self, settings: WorkerSettings, store: BankStore) -> None:
        self._settings, self._store = settings, store
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="console-explaining")
        self._engine: Engine | None = None
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._waiting: set[Future[bytes]] = set()

    def ask(self, result_id: str) -> Future[bytes]:
        """The JSON of `Explanation.to_json`; the future raises what `Line.result` and `open_engine` do.

        Raises:
            BusyError: too many are being waited for.
        """
        self._waiting = {future for future in self._waiting if not future.done()}
        if len(self._waiting) >= _MAX_WAITING:
            raise BusyError("explanations")
        made = self._thread.submit(self._make, result_id)
        self._waiting.add(made)
        return made

    def close(self) -> None:
        """Release the thread and the engine; may be called twice."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _make(self, result_id: str) -> bytes:
        if result_id not in self._kept:
            if self._engine is None:
                self._engine = open_engine(self._settings.engine)
            found = Line(self._settings, self._engine, self._store).result(result_id)
            self._kept[result_id] = json.dumps(_finite(found.to_json()), allow_nan=False).encode()
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[result_id]


def _finite(value: Any) -> Any:
    """JSON knows no infinity: null instead."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
