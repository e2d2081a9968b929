from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.learning.diff import Turned, changes, turns
from quarterturn.worker.learning.disagreements import Disagreements, find_disagreements
from quarterturn.worker.learning.recent import Recent, stream_of
from quarterturn.worker.learning.shelf import Shelf
from quarterturn.worker.messages.frames import Frame, Position
from tests.parts import good_part, scratched_part
from tests.worker.learning.plant import Plant, alerts, glossy_part


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plant, Bank]:
    """A line that learned a new gloss, whose results of before are still there, and the version before."""
    plant = Plant(tmp_path_factory.mktemp("plant"))
    rejected = alerts(plant.come(lambda rng: (glossy_part if rng.random() < 0.4 else good_part)(rng), 60))
    plant.say("bad", plant.come(scratched_part, 3))
    plant.say("good", rejected[:20])
    results = list(plant.kafka.results)
    plant.learn()
    plant.kafka.results = results
    return plant, plant.first


def test_results_that_turn_are_those_that_both_versions_decide_differently(taught: tuple[Plant, Bank]) -> None:
    plant, before = taught
    results = list(plant.kafka.results)
    found = turns(plant.engine, before, plant.bank, results, archive=plant.kafka, settings=plant.settings)
    assert (found.seen, found.by_score, found.unknown) == (len(results), 0, 0)
    were = {one["resultId"] for one in results if one["alert"]}
    scratched = {one["resultId"] for one in results[-3:]}
    passing = {one.result_id for one in found.turned if one.was_alert}
    assert passing <= were - scratched
    assert len(passing) >= 15
    for one in found.turned:
        assert one.seen
        assert (one.scores[0] > one.thresholds[0]) == one.was_alert
        assert one.scores[1] is not None
        assert (one.scores[1] > one.thresholds[1]) != one.was_alert


def test_where_the_picture_is_gone_the_recorded_score_decides(taught: tuple[Plant, Bank]) -> None:
    plant, before = taught
    low = replace(before.calibration[0], scores=before.calibration[0].scores * np.float32(1e-3))
    stricter = replace(before, calibration=(low,))
    results = list(plant.kafka.results)
    foreign = [{**one, "internalConfigurationId": "f" * 64} for one in results[:7]]
    found = turns(plant.engine, before, stricter, [*foreign, *results[7:]], archive=_Gone(), settings=plant.settings)
    assert (found.seen, found.unknown) == (0, 7)
    assert found.by_score == len(results) - 7
    passed = [one for one in results[7:] if one["alert"] is None]
    assert {one.result_id for one in found.turned} == {one["resultId"] for one in passed}
    threshold = float(np.sort(low.scores)[-1])
    for one, result in zip(found.turned, passed, strict=True):
        assert one == Turned(
            result["resultId"], False, (result["score"], None), (result["threshold"], pytest.approx(threshold)), False
        )


class _Gone:
    """An archive whose frames retention has deleted."""

    def fetch(self, positions: Sequence[Position]) -> dict[Position, Frame | DataError]:
        return {one: DataError(f"{one}: gone") for one in positions}


def test_what_changed_is_said(taught: tuple[Plant, Bank]) -> None:
    plant, before = taught
    said = list(changes(before, plant.bank, plant.settings))
    assert sum(": ring, good by Ilse: not known -> learned" in one for one in said) == 10
    assert sum(": ring, bad by Ilse: not known -> found" in one for one in said) == 3
    counts = [len(one.calibration[0].scores) for one in (before, plant.bank)]
    assert f"ring: calibration pictures {counts[0]} -> {counts[1]}" in said
    assert any(one.startswith("ring: threshold ") and " -> " in one for one in said)
    assert not list(changes(before, before, plant.settings))

    votes = {"frame": 0.25, "nearest.deep": 0.75}
    voted = replace(before, manifest=before.manifest.model_copy(update={"votes": votes}))
    assert list(changes(before, voted, plant.settings))[-2:] == [
        "vote of frame: 50.0% -> 25.0%",
        "vote of nearest.deep: 50.0% -> 75.0%",
    ]


@pytest.mark.parametrize("kept", [True, False])
def test_disagreements_are_words_that_the_bank_does_not_share(taught: tuple[Plant, Bank], kept: bool) -> None:
    plant, before = taught
    pictures = Shelf(plant.fit.learned).read() if kept else {}
    words = dict(plant.kafka.words)

    def disagreements(bank: Bank) -> Disagreements:
        return find_disagreements(
            plant.engine, bank, words, kept=pictures, archive=plant.kafka, settings=plant.settings
        )

    old = disagreements(before)
    assert {word.result_id for word, _ in old.found} == {name for name, word in words.items() if word.verdict == "good"}
    assert all(data.alert is not None for _, data in old.found)
    new = disagreements(plant.bank)
    assert {word.result_id for word, _ in new.found} < {word.result_id for word, _ in old.found}
    assert len(new.found) <= 3
    assert not new.unknown


def test_a_bad_part_that_the_bank_passes_is_a_disagreement_and_a_frame_that_is_gone_is_told(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    passed, gone = [one for one in plant.come(good_part, 10) if not one.is_alert][:2]
    plant.say("bad", [passed, gone])
    del plant.kafka.frames[gone.position]
    found = find_disagreements(
        plant.engine, plant.bank, plant.kafka.words, kept={}, archive=plant.kafka, settings=plant.settings
    )
    ((word, data),) = found.found
    assert (word.result_id, word.verdict, data.alert) == (passed.data.result_id, "bad", None)
    assert list(found.unknown) == [gone.data.result_id]


def test_the_last_results_are_kept_and_counted_by_version_and_product(taught: tuple[Plant, Bank]) -> None:
    plant, before = taught
    results = list(plant.kafka.results)
    plant.kafka.results = [*results, {**results[0], "score": 1.0}]
    del plant.kafka.results[-1]["score"]  # a late frame
    recent = Recent(plant.kafka, last=20)
    assert recent.read() == results[-20:]
    assert recent.read() == results[-20:]
    plant.kafka.results = results

    counted = stream_of(results, plant.kafka.words, before.version, "ring")
    first = next(n for n, one in enumerate(results) if one["resultId"] in plant.kafka.words)
    assert counted.results == len(results) - first - 1
    assert counted.bad == 3
    assert counted.good == 19
    assert counted.beyond == sum(one["alert"] is not None for one in results[first + 1 :])
    for other in (("f" * 64, "ring"), (before.version, "bracket")):
        assert stream_of(results, plant.kafka.words, *other).results == 0
    dark = [{**one, "alert": "unusable_picture"} for one in results]
    assert stream_of(dark, plant.kafka.words, before.version, "ring") == counted, "the score decides"
