from __future__ import annotations

import logging
from pathlib import Path

import pytest

from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.runtime import assemble
from quarterturn.worker.settings.worker import WorkerSettings
from tests.parts import NumpyEngine, bank_of


@pytest.mark.parametrize("overkill", [0.02, 0.05])
def test_a_bank_that_was_fitted_otherwise_is_said_so_when_it_goes_into_service(
    overkill: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = NumpyEngine()
    monkeypatch.setattr(assemble, "open_engine", lambda _: engine)
    FileBankStore(tmp_path / "banks").publish("line-1", bank_of(engine))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(b"")
    settings = WorkerSettings.model_validate(
        {
            "line": "line-1",
            "engine": {"path": "engine"},
            "bank": {"file": {"path": tmp_path / "banks"}},
            "transport": {"folder": {"path": tmp_path / "pictures", "out": tmp_path / "out.jsonl"}},
            "overkill": overkill,
            "http": None,
        }
    )
    with caplog.at_level(logging.WARNING), assemble.build_service(settings):
        said = [record.getMessage() for record in caplog.records if "the bank was fitted" in record.getMessage()]
    assert len(said) == (overkill != 0.02)
