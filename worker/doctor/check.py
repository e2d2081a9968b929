"""One line of the doctor's report, and how all lines are gathered without ever waiting for one that hangs."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from quarterturn.worker.contract.errors import QuarterturnError

log = logging.getLogger(__name__)

Status = Literal["ok", "warning", "failure", "skipped"]
Group = Callable[[], Iterable["Check"]]

LIMIT_S = 60.0
"""How long all checks together may take: loading an engine on a small board is the longest."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what was found, and the command or setting that mends it ("": nothing to mend)."""

    name: str
    status: Status
    found: str
    fix: str = ""


def failure(name: str, error: QuarterturnError) -> Check:
    """An error of ours as a check: it says what is wrong and, behind its last semicolon, what to do."""
    found, _, fix = str(error).removeprefix(f"{name} at ").rpartition("; ")
    return Check(name, "failure", found, fix) if found else Check(name, "failure", fix)


def gather(groups: Mapping[str, Group], limit_s: float = LIMIT_S) -> list[Check]:
    """The checks of all groups, in order. The groups run side by side, one that does not end is left behind."""
    found: dict[str, list[Check]] = {name: [] for name in groups}
    threads = {
        name: threading.Thread(target=_run, args=(name, group, found[name]), daemon=True)
        for name, group in groups.items()
    }
    for thread in threads.values():
        thread.start()
    deadline_s = time.monotonic() + limit_s
    checks: list[Check] = []
    for name, thread in threads.items():
        thread.join(max(0.0, deadline_s - time.monotonic()))
        checks += found[name]
        if thread.is_alive():
            why = "look into 'dmesg' for a driver or a disk that hangs, then restart the machine"
            checks.append(Check(name, "failure", f"no answer within {limit_s:g} s", why))
    return checks


def masked(check: Check) -> Check:
    """The check without the user and the password of any URL that it quotes."""
    found, fix = (re.sub(r"//\S*@", "//***@", text) for text in (check.found, check.fix))
    return replace(check, found=found, fix=fix)


def _run(name: str, group: Group, found: list[Check]) -> None:
    try:
        for check in group():
            found.append(check)  # one by one: what was found before a fault or a hang is shown
    except Exception as error:  # a thread's boundary: shown as a failed check
        log.debug("unexpected error", exc_info=True)
        text = f"unexpected {type(error).__name__}: {error}"
        found.append(Check(name, "failure", text, "run again with --log-level debug and report it"))
