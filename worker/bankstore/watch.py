"""Keeps the worker's bank up to date: loads the active version, then each new one, without stopping the line."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from quarterturn.worker.bankstore.base import BankStore, BankVersion
from quarterturn.worker.bankstore.versions import require_active
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import QuarterturnError, UnavailableError
from quarterturn.worker.contract.manifest import short
from quarterturn.worker.contract.times import timestamp

log = logging.getLogger(__name__)

OnBank = Callable[[Bank, str], None]

_EMPTY = "the store holds no bank of this line (any more); push one"


class BankWatcher:
    """Hands every new active bank of `line` to `on_bank(bank, version)`, first from `start`, then from a thread.

    A bank that cannot be loaded, or that `on_bank` refuses with a QuarterturnError, is logged and counted, and the
    bank before it goes on serving. `snapshot` is a second store that gets a copy of each bank in service; it is read
    only where `store` cannot be reached at the start, or is empty then. `tidy` is called when a bank is in service, and
    when its copy was written: both leave several times its size behind.

    Attributes:
        state: "ok", or a sentence on what is wrong with the store or its newest bank.
    """

    def __init__(
        self,
        store: BankStore,
        line: str,
        on_bank: OnBank,
        poll_s: float,
        *,
        snapshot: BankStore | None = None,
        tidy: Callable[[], object] = lambda: None,
    ) -> None:
        self.state = "ok"
        self._store = store
        self._line = line
        self._on_bank = on_bank
        self._poll_s = poll_s
        self._snapshot = snapshot
        self._tidy = tidy
        self._serving = ""
        self._bad: BankVersion | None = None
        self._why_bad = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bank-watcher", daemon=True)

    def start(self) -> None:
        """Serve the active bank, then watch for new ones.

        Raises:
            DataError: the line has no bank, or its bank is damaged.
            MismatchError: its bank does not fit (from `on_bank`).
            UnavailableError: the store cannot be reached, and there is no snapshot of this line.
        """
        try:
            if self._store.current(self._line) is None and self._serve_snapshot():
                self._enter(_EMPTY, logging.WARNING)  # it came back empty, and workers that run go on, too
            else:
                self._serve(self._store, require_active(self._store, self._line))
        except UnavailableError as error:
            if not self._serve_snapshot():
                raise UnavailableError(f"{error}; no local copy of a bank is there to start with") from error
            self._lost(error)
        self._thread.start()

    def close(self) -> None:
        """End the watching; a `wait` or load under way is not waited for longer than a second."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def _serve_snapshot(self) -> bool:
        """Serve the local copy; whether there is one."""
        copy = self._snapshot.current(self._line) if self._snapshot else None
        if self._snapshot is None or copy is None:
            return False
        self._serve(self._snapshot, copy)
        return True

    def _serve(self, store: BankStore, active: BankVersion) -> None:
        """Load one version aside, hand it over, and keep a copy of it."""
        bank = store.load(self._line, active.version)
        if self._stopping.is_set():
            return
        self._on_bank(bank, active.version)
        self._tidy()
        self._serving = active.version
        log.info("line %s: bank %s, pushed at %s, is in service", self._line, short(active.version), active.pushed_at)
        if self._snapshot is not None and store is not self._snapshot:
            self._keep_copy(self._snapshot, bank, active.version)
            self._tidy()

    def _keep_copy(self, snapshot: BankStore, bank: Bank, version: str) -> None:
        try:
            kept = snapshot.current(self._line)
            if kept is None or kept.version != version:
                snapshot.publish(self._line, bank)
        except QuarterturnError as error:
            log.warning("line %s: no local copy of bank %s: %s", self._line, short(version), error)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self._store.wait(self._line, self._poll_s)
                self._look()
            except UnavailableError as error:
                self._lost(error)
                self._stopping.wait(self._poll_s)
            except Exception as error:  # noqa: BLE001 - a thread's boundary: shown in `state`, and tried again
                self._enter(f"failing: {type(error).__name__}: {error}", logging.ERROR)
                self._stopping.wait(self._poll_s)

    def _look(self) -> None:
        """Compare the store's active version with the one in service, and change over if they differ."""
        active = self._store.current(self._line)
        if active is None:
            self._enter(_EMPTY, logging.WARNING)
        elif active == self._bad:  # refused before; pushed again, it would have another time
            self._enter(self._why_bad, logging.ERROR)
        elif active.version == self._serving:
            self._enter("ok", logging.INFO)
        else:
            self._change_over(active)

    def _change_over(self, active: BankVersion) -> None:
        try:
            self._serve(self._store, active)
        except UnavailableError:
            raise
        except QuarterturnError as error:
            self._bad, self._why_bad = active, f"bank {short(active.version)} is refused: {error}"
            self._enter(self._why_bad, logging.ERROR)
        else:
            self._enter("ok", logging.INFO)

    def _lost(self, error: UnavailableError) -> None:
        if not self.state.startswith("unreachable"):
            self._enter(f"unreachable since {timestamp(time.time())}: {error}", logging.WARNING)

    def _enter(self, state: str, level: int) -> None:
        """Change the state; each change is logged once."""
        if state != self.state:
            self.state = state
            log.log(level, "line %s: bank store: %s; bank %s is in service", self._line, state, short(self._serving))
