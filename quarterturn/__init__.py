"""Streaming anomaly detection for inspection lines.

The names below are the public face, shown one by one in docs/api.md. Each is imported when it is first asked for, so
`import quarterturn` costs next to nothing and changes nothing: neither numpy nor OpenCV is loaded by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "Bank",
    "BatchSettings",
    "CameraSettings",
    "DeadLetter",
    "EngineSettings",
    "Frame",
    "Health",
    "Inspector",
    "Late",
    "Outcome",
    "Position",
    "QuarterturnError",
    "ScoringSettings",
    "Service",
    "Transport",
    "Verdict",
    "__version__",
    "evaluate",
    "fit_bank",
    "heatmap",
    "open_engine",
    "read_bank_file",
    "split_pictures",
    "test_pictures",
]

if TYPE_CHECKING:  # for type checkers and editors; at run time `_HOMES` says the same
    from quarterturn.worker.contract.bank import Bank, ScoringSettings
    from quarterturn.worker.contract.errors import QuarterturnError
    from quarterturn.worker.evaluation.evaluate import evaluate
    from quarterturn.worker.fitting.bank_file import read_bank_file
    from quarterturn.worker.fitting.fit import fit_bank
    from quarterturn.worker.fitting.split import split_pictures
    from quarterturn.worker.inspection import heatmap
    from quarterturn.worker.inspection.inspector import Inspector
    from quarterturn.worker.messages.events import DeadLetter, Late, Outcome, Verdict
    from quarterturn.worker.messages.frames import Frame, Position
    from quarterturn.worker.pictures.sets import test_pictures
    from quarterturn.worker.runtime.assemble import open_engine
    from quarterturn.worker.runtime.health import Health
    from quarterturn.worker.runtime.service import Service
    from quarterturn.worker.settings.worker import BatchSettings, CameraSettings, EngineSettings
    from quarterturn.worker.transport.base import Transport

    __version__: str
else:  # hidden from type checkers: to them a `__getattr__` means that every misspelt name is there, too
    _HOMES = {
        "Bank": "worker.contract.bank:Bank",
        "BatchSettings": "worker.settings.worker:BatchSettings",
        "CameraSettings": "worker.settings.worker:CameraSettings",
        "DeadLetter": "worker.messages.events:DeadLetter",
        "EngineSettings": "worker.settings.worker:EngineSettings",
        "Frame": "worker.messages.frames:Frame",
        "Health": "worker.runtime.health:Health",
        "Inspector": "worker.inspection.inspector:Inspector",
        "Late": "worker.messages.events:Late",
        "Outcome": "worker.messages.events:Outcome",
        "Position": "worker.messages.frames:Position",
        "QuarterturnError": "worker.contract.errors:QuarterturnError",
        "ScoringSettings": "worker.contract.bank:ScoringSettings",
        "Service": "worker.runtime.service:Service",
        "Transport": "worker.transport.base:Transport",
        "Verdict": "worker.messages.events:Verdict",
        "evaluate": "worker.evaluation.evaluate:evaluate",
        "fit_bank": "worker.fitting.fit:fit_bank",
        "heatmap": "worker.inspection.heatmap",
        "open_engine": "worker.runtime.assemble:open_engine",
        "read_bank_file": "worker.fitting.bank_file:read_bank_file",
        "split_pictures": "worker.fitting.split:split_pictures",
        "test_pictures": "worker.pictures.sets:test_pictures",
    }

    def __getattr__(name):
        if name == "__version__":
            from importlib.metadata import version

            found = version("quarterturn")
        elif name in _HOMES:
            from pkgutil import resolve_name

            found = resolve_name(f"{__name__}.{_HOMES[name]}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found  # asked for once
        return found

    def __dir__():
        return sorted({*globals(), *__all__})
