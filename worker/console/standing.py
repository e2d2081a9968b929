"""How the line stands beside its results: whether the workers are ready, and which bank the store says is active."""

from __future__ import annotations

import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from quarterturn.worker.bankstore.base import BankStore
from quarterturn.worker.contract.errors import QuarterturnError

log = logging.getLogger(__name__)

_LOOK_S = 5.0
_TIMEOUT_S = 2.0
_MAX_ANSWER = 65_536  # bytes


class Standing:
    """Looks every few seconds at workers and bank store while in a `with` block; never at the workers' work.

    Attributes:
        workers: for each address {"address", "ready", "text"}.
        bank: {"version", "pushedAt", "products"} of the active bank, or {"text"} on why that is not known.
    """

    def __init__(self, addresses: Sequence[str], store: BankStore, line: str) -> None:
        self._addresses, self._store, self._line = addresses, store, line
        self.workers: list[dict[str, Any]] = []
        self.bank: dict[str, Any] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="console-standing", daemon=True)

    def __enter__(self) -> Standing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=_TIMEOUT_S + 1)

    def _watch(self) -> None:
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="console-workers") as pool:
            while not self._stopping.is_set():
                self.workers = list(pool.map(_worker, self._addresses))
                self.bank = self._active()
                self._stopping.wait(_LOOK_S)

    def _active(self) -> dict[str, Any]:
        try:
            active = self._store.current(self._line)
            if active is None:
                return {"text": f"line '{self._line}' has no bank; push one with 'quarterturn bank push'"}
            if active.version == self.bank.get("version"):
                return self.bank
            products = self._store.load(self._line, active.version).products
        except QuarterturnError as error:
            return {"text": str(error)}
        except Exception as error:  # noqa: BLE001 - a thread's boundary: shown on the page, and tried again
            return {"text": f"{type(error).__name__}: {error}"}
        return {"version": active.version, "pushedAt": active.pushed_at, "products": products}


def _worker(address: str) -> dict[str, Any]:
    """What `/readyz` of one worker says; an answer of 503 is one, too."""
    url = f"{address.rstrip('/')}/readyz"
    try:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http(s), by the settings
                body = answer.read(_MAX_ANSWER)
        except urllib.error.HTTPError as refusal:
            with refusal:
                body = refusal.read(_MAX_ANSWER)
        said = json.loads(body)
        odd = [f"{part}: {state}" for part, state in said["parts"].items() if state != "ok"]
        lacks = said["lacks"]
        return {"address": address, "ready": bool(said["ready"]), "text": "; ".join([lacks] if lacks else odd)[:500]}
    except OSError as error:
        return {"address": address, "ready": False, "text": f"no answer ({getattr(error, 'reason', error)})"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"address": address, "ready": False, "text": "its answer is none of a worker; correct console.workers"}
