"""What the console and the workers say in English has words in the other languages, too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from quarterturn.worker.alerting.words import Reading, in_words
from quarterturn.worker.console.faults import BusyError, ConsoleError, in_json
from quarterturn.worker.console.rows import code_of
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import FrameError, GoneError, Reason, UnavailableError
from quarterturn.worker.contract.guard import MEASURES, unusable
from quarterturn.worker.contract.usual import KINDS
from quarterturn.worker.inspection.scorer import Scorer
from tests.worker.console.browser import WORDS

CONSOLE = Path(__file__).parents[3] / "worker/console"


def reasons() -> Iterator[str]:
    """Every sentence by which a worker says why a picture cannot be judged, and how a camera drifts."""
    limits = np.tile(np.array([10, 100], np.float32), (len(MEASURES), 1))
    for m in range(len(MEASURES)):
        for value in (5, 200):
            measured = np.full(len(MEASURES), 50, np.float32)
            measured[m] = value
            said = unusable(measured, limits)
            assert said is not None
            yield said
    yield "the camera has sent the same picture 5 times in a row"
    for quantity in range(len(KINDS)):
        for found in (Reading(10, 5), Reading(10, 15), None):
            yield in_words(quantity, found)


@pytest.mark.parametrize("reason", [*reasons()])
def test_what_a_worker_says_of_pictures_and_cameras_has_german_words(reason: str) -> None:
    code = code_of(reason)
    assert code is not None
    assert WORDS["en"][code] == "{text}", "in English it is the worker's own sentence"
    assert WORDS["de"][code]


@pytest.mark.parametrize("reason", sorted({*get_args(Reason)} - {"unknown_product"}))
def test_each_reason_of_a_dead_letter_has_german_words(reason: Reason) -> None:
    said = in_json(FrameError(reason, "what exactly"))
    assert said == {"error": "what exactly", "code": f"reason.{reason}", "values": {}}
    assert WORDS["de"][said["code"]]


def test_an_unknown_product_and_those_of_the_bank_are_named_in_german_too(bank: Bank) -> None:
    with pytest.raises(FrameError) as raised:
        Scorer(bank).admissible(["washer (M8)", "nut"])
    said = in_json(raised.value)
    assert said["values"] == {"product": "washer (M8)/nut", "known": "bracket, ring"}
    german = WORDS["de"][said["code"]].format(**said["values"])
    assert german == "Das Produkt washer (M8)/nut ist nicht in der Bank (bracket, ring)"
    other = in_json(FrameError("unknown_product", "said otherwise, as by a newer worker"))
    assert (other["code"], other["values"]) == (None, {}), "its own words are better than ours with holes"


def test_each_refusal_of_the_console_has_its_words() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in CONSOLE.glob("*.py"))
    raised = {f"fault.{name}" for name in re.findall(r'(?:ConsoleError|BusyError)\(\s*"(\w+)"', code)}
    raised |= {"fault.region", "fault.product", "fault.unavailable", "fault.gone"}  # `place` of judging.py, and in_json
    assert len(raised) > 12
    assert raised == {key for key in WORDS["en"] if key.startswith("fault.")}


def test_an_error_for_the_page() -> None:
    outside = in_json(ConsoleError("outside", width=640, height=480))
    assert outside["error"] == "the region is not inside the picture of 640 × 480 pixels; draw it again"
    assert (outside["code"], outside["values"]) == ("fault.outside", {"width": 640, "height": 480})
    assert in_json(UnavailableError("no answer"))["code"] == "fault.unavailable"
    assert in_json(GoneError("it is gone")) == {"error": "it is gone", "code": "fault.gone", "values": {}}
    assert in_json(BusyError("pictures"))["code"] == "fault.pictures"
    assert in_json(ValueError("of another kind")) == {"error": "of another kind", "code": "", "values": {}}
