"""Every fault once, by a seed: nothing lost, nothing twice. `make chaos` plays the same for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import chaos
from tests.chaos.faults import FREEZES, KILLS, STOPS
from tests.lines import MadeLine


@pytest.mark.timeout(600)
def test_every_frame_has_exactly_one_result_whatever_fails(line: MadeLine, tmp_path: Path) -> None:
    fates = [*KILLS, *FREEZES, *STOPS]
    report = chaos(line, tmp_path, fates, frames=1000, rate=60, workers=3, outages=5, gone_s=3, pause_s=5, seed=0)
    print(report.table())
    assert report.clean
    assert report.kills == len(KILLS)
    assert report.account.alerts > 0
    assert report.account.dead_letters > 0
