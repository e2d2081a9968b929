"""What `make audit` says of pip-audit's reports."""

from __future__ import annotations

import json

from tests.audit import verdict

CLEAN = {"name": "numpy", "version": "2.0.0", "vulns": []}
FLAWED = {"name": "pillow", "version": "9.0.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["9.0.1"]}]}
UNKNOWN = {"name": "ours", "skip_reason": "not found"}


def test_a_flaw_fails_and_is_named() -> None:
    code, text = verdict(json.dumps({"dependencies": [CLEAN, FLAWED, UNKNOWN]}))
    assert code == 1
    assert "pillow 9.0.0: PYSEC-1, mended in 9.0.1" in text
    assert "2 of 3 packages looked up, 1 flaws" in text


def test_a_clean_report_passes() -> None:
    assert verdict(json.dumps({"dependencies": [CLEAN]})) == (
        0,
        "dependency audit: 1 of 1 packages looked up, 0 flaws\n",
    )


def test_an_audit_that_looked_nothing_up_says_so() -> None:
    for report in (json.dumps({"dependencies": [UNKNOWN]}), ""):
        code, text = verdict(report)
        assert code == 0
        assert "NOT DONE" in text
