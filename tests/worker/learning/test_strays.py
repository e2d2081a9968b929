"""Parts of another product that run past a camera which is told nothing of each part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quarterturn.worker.contract.history import words_in
from quarterturn.worker.learning.diff import turns
from quarterturn.worker.learning.disagreements import find_disagreements
from quarterturn.worker.learning.recent import Recent, stream_of
from quarterturn.worker.learning.shelf import Shelf
from quarterturn.worker.messages.events import Verdict
from tests import parts
from tests.worker.learning.plant import Plant, alerts, glossy_part


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path, products=("ring", "plate"), cameras={"top-01": {"products": ["ring"]}})


def plates(plant: Plant, count: int) -> list[Verdict]:
    plant.rng = np.random.default_rng(77)
    came = plant.come(lambda rng: parts.good_part(rng, "plate"), count)
    assert {(one.data.alert, one.data.predicted_product, one.data.product_id) for one in came} == {
        ("wrong_product", "plate", None)
    }
    return came


def test_a_confirmed_stray_is_found_by_each_version_that_stops_it(plant: Plant) -> None:
    strays = plates(plant, 5)
    plant.say("bad", strays)
    plant.say("good", alerts(plant.come(glossy_part, 40))[:10])
    learned = plant.learn()
    assert learned.bank is not None
    roles = {name: word.role for name, word in words_in(learned.bank.manifest.history).items() if word.verdict == "bad"}
    assert roles == dict.fromkeys(sorted(one.data.result_id for one in strays), "found")
    kept = Shelf(plant.root / "learned").read()
    disagreements = find_disagreements(
        plant.engine, learned.bank, plant.kafka.words, kept=kept, archive=plant.kafka, settings=plant.settings
    )
    assert not any(word.verdict == "bad" for word, _ in disagreements.found)


def test_strays_are_no_rejected_good_parts_of_what_they_look_like(plant: Plant) -> None:
    plates(plant, 20)
    results = Recent(plant.kafka).read()
    assert stream_of(results, {}, plant.first.version, "plate").results == 0
    assert stream_of(results, {}, plant.first.version, "ring").results == 0


def test_what_a_gone_stray_would_be_nobody_knows(plant: Plant) -> None:
    plates(plant, 3)
    results, before = Recent(plant.kafka).read(), plant.first
    plant.kafka.frames.clear()
    found = turns(plant.engine, before, before, results, archive=plant.kafka, settings=plant.settings)
    assert (found.unknown, found.by_score, found.turned) == (3, 0, [])
