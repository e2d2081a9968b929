from __future__ import annotations

from typing import Any

import pytest

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.settings.worker import CameraSettings, DriftSettings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"alpha": 0}, "drift.alpha = 0"),
        ({"alpha": 1}, "drift.alpha = 1"),
        ({"measures": []}, "drift.measures"),
        ({"measures": ["focus"]}, "focus"),
        ({"measures": ["score", "score"]}, "a measure is named twice"),
        ({"alhpa": 0.1}, "did you mean 'alpha'?"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=r"^worker\.yaml: ") as caught:
        parse_settings({"drift": settings}, CameraSettings, "worker.yaml")
    assert sentence in str(caught.value)


def test_every_camera_is_watched_unless_told_otherwise() -> None:
    assert CameraSettings().drift == DriftSettings()
    assert CameraSettings().alerts.hold_while_drifting
    assert parse_settings({"drift": None}, CameraSettings, "worker.yaml").drift is None
