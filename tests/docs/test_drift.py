"""docs/drift.md names measures and fields that there are, and its example is a setting."""

from __future__ import annotations

import re
from typing import get_args

import yaml

from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.contract.usual import Measure
from quarterturn.worker.messages.alarms import Drift
from quarterturn.worker.settings.worker import CameraSettings, DriftSettings
from tests.docs.pages import names, page

TEXT = page("drift.md")


def test_the_tables_are_those_of_the_models() -> None:
    assert sorted(names(TEXT, "| measure | what it is | what it finds |")) == sorted(get_args(Measure))
    fields = set(Drift.model_fields) - {*Drift.__mro__[1].model_fields} | {"state"}  # type: ignore[attr-defined]
    assert set(names(TEXT, "| field | says |")) == fields


def test_the_example_says_the_defaults() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    camera = parse_settings(yaml.safe_load(example)["cameras"]["top-01"], CameraSettings, "drift.md")
    assert camera.drift == DriftSettings()
