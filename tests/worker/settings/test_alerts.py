from __future__ import annotations

from typing import Any

import pytest

from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.settings.worker import AlertSettings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"at_least": 3, "of_last": 2}, "'at_least' is 3, but there are only 2 frames in 'of_last'"),
        ({"at_least": 0}, "at_least = 0"),
        ({"of_last": 101}, "of_last = 101"),
        ({"cool_down_s": -1}, "cool_down_s = -1"),
        ({"cooldown_s": 1}, "did you mean 'cool_down_s'?"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_settings(settings, AlertSettings, "worker.yaml")
    assert sentence in str(refused.value)
