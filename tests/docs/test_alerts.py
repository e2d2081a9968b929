"""docs/alerts.md names settings and reasons that there are, and its examples are settings."""

from __future__ import annotations

import re
from typing import get_args

import yaml

from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.contract.silence import Silence
from quarterturn.worker.messages.events import AlarmState, Held
from quarterturn.worker.settings.worker import AlertSettings, CameraSettings
from tests.docs.pages import names, page

TEXT = page("alerts.md")


def test_the_tables_are_those_of_the_models() -> None:
    assert names(TEXT, "| setting | default | what it does | example |") == list(AlertSettings.model_fields)
    assert names(TEXT, "| why | the alert |") == list(get_args(Held))
    assert names(TEXT, "| `state` | comes with | says |") == list(get_args(AlarmState))


def test_the_examples_are_settings() -> None:
    camera, silences = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL))
    assert parse_settings(camera["cameras"]["top-01"], CameraSettings, "docs/alerts.md").alerts.at_least == 2
    (silence,) = silences["silences"]
    assert parse_settings(silence, Silence, "docs/alerts.md").product == "bracket"
