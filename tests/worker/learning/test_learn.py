"""From words to the next version, on a line in memory: the pictures, the engine, the banks and the judge are real."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import DataError, MismatchError
from quarterturn.worker.contract.history import words_in
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import Split
from quarterturn.worker.messages.events import Verdict
from quarterturn.worker.messages.frames import Position
from tests.parts import frame, good_part, scratched_part
from tests.worker.learning.plant import LINE, OVERKILL, Picture, Plant, alerts, glossy_part


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    return Plant(tmp_path_factory.mktemp("plant"))


@pytest.fixture
def plant(built: Plant) -> Plant:
    """A new day on a line whose bank was fitted already."""
    for name in ("learned", "elsewhere", "banks"):
        shutil.rmtree(built.root / name, ignore_errors=True)
    built.kafka.frames.clear()
    built.kafka.results.clear()
    built.kafka.words.clear()
    built.store.publish(LINE, built.first)
    built.count = 0
    built.rng = np.random.default_rng(5)
    return built


def mixed(share: float) -> Callable[[np.random.Generator], Picture]:
    return lambda rng: (glossy_part if rng.random() < share else good_part)(rng)


def roles(bank: Bank) -> Counter[str]:
    return Counter(word.role for word in words_in(bank.manifest.history).values())


def without_dates(bank: Bank) -> bytes:
    """Nor the names of its pictures' files."""
    gallery = tuple([replace(picture, name="-") for picture in shown] for shown in bank.gallery)
    manifest = bank.manifest.model_copy(update={"history": (), "created_at": ""})
    return replace(bank, manifest=manifest, gallery=gallery).blob


def gloss_comes(plant: Plant, confirmed: int = 20) -> list[Verdict]:
    """A third of the parts has a new gloss, and people call so many of those that were rejected good."""
    rejected = alerts(plant.come(mixed(0.33), 100))
    plant.say("good", rejected[:confirmed])
    return rejected


def test_a_new_kind_is_learned_and_no_defect_is_lost(plant: Plant) -> None:
    defects = plant.come(scratched_part, 8)
    plant.say("bad", defects)
    rejected = gloss_comes(plant)
    assert len(rejected) > 20

    learned = plant.learn()
    assert plant.bank.version != plant.first.version
    assert any("% of the last" in said and "pictures that calibrate" in said for said in learned.said)
    assert "all 8 confirmed defects that the version in service finds are found" in learned.said
    found = roles(plant.bank)
    assert found["learned"] == 10
    assert found["calibrating"] + found["waiting"] == 10
    assert found["found"] == 8
    assert len(plant.bank.calibration[0].scores) == len(plant.split.calibration["ring"]) + found["calibrating"]

    assert len(alerts(plant.come(mixed(0.33), 100))) <= 12  # asked for 6%: what chance may make of it
    assert len(alerts(plant.come(scratched_part, 20))) == 20


def test_the_history_says_who_confirmed_what_and_when(plant: Plant) -> None:
    plant.say("bad", plant.come(scratched_part, 1), at="2026-01-01T00:00:00Z", by="Ömer")
    gloss_comes(plant, 4)
    plant.learn()
    (step,) = plant.bank.manifest.history
    assert step.parent == plant.first.version
    assert {(word.verdict, word.by, word.at, word.product) for word in step.words} == {
        ("bad", "Ömer", "2026-01-01T00:00:00Z", "ring"),
        ("good", "Ilse", "2026-01-02T03:04:05Z", "ring"),
    }
    assert step.sentence.endswith("with 4 good and 1 bad parts by Ilse, Ömer")

    second = plant.bank.version
    gloss_comes(plant, 2)
    plant.say("good", plant.come(glossy_part, 3))
    plant.learn()
    assert [step.parent for step in plant.bank.manifest.history] == [plant.first.version, second]
    assert plant.bank.manifest.history[0] == step
    assert not {word.result_id for word in plant.bank.manifest.history[1].words} & {w.result_id for w in step.words}


def test_step_by_step_is_bit_for_bit_a_fit_from_scratch(plant: Plant, tmp_path: Path) -> None:
    """By an engine that remembers nothing, of pictures that this test laid out itself by the history."""
    rejected = gloss_comes(plant, 6)
    plant.learn()
    plant.say("good", rejected[6:14])
    plant.learn()
    plant.say("good", plant.come(glossy_part, 5))
    plant.learn()
    assert len(plant.bank.manifest.history) == 3

    laid_out: dict[str, list[Path]] = {"learned": [], "calibrating": []}
    for name, word in sorted(words_in(plant.bank.manifest.history).items()):
        if word.role in laid_out:
            path = tmp_path / f"{name.rpartition(':')[2]}.png"
            path.write_bytes(
                next(one.data for place, one in plant.kafka.frames.items() if name.endswith(f":{place.offset}"))
            )
            laid_out[word.role].append(path)
    base = plant.split
    kept = plant.bank.manifest.history[-1].calibration["ring"]
    assert kept == len(base.calibration["ring"]), "this test does not know which ones would stay"
    split = Split(
        {"ring": [*base.normal["ring"], *laid_out["learned"]]},
        base.weighing,
        {"ring": [*base.calibration["ring"], *laid_out["calibrating"]]},
    )
    scratch = fit_bank(plant.engine, split, plant.fit.scoring, OVERKILL)
    assert without_dates(scratch) == without_dates(plant.bank)


def test_only_what_is_new_is_embedded(plant: Plant) -> None:
    rejected = gloss_comes(plant, 6)
    plant.learn()
    plant.say("good", rejected[6:8])
    plant.learner().learn(plant.kafka.words)
    assert plant.remembering.embedded == 2
    assert plant.remembering.remembered > 80


def test_a_line_within_its_promise_learns_all_and_calibrates_as_before(plant: Plant) -> None:
    good = plant.come(good_part, 150)
    rejected = alerts(good)
    assert 0 < len(rejected) <= 15
    plant.say("good", rejected)
    plant.learn()
    assert roles(plant.bank) == {"learned": len(rejected)}
    assert len(plant.bank.calibration[0].scores) == len(plant.split.calibration["ring"])


def test_too_few_for_a_promise_are_learned_and_it_is_said(plant: Plant) -> None:
    gloss_comes(plant, 3)
    learned = plant.learn()
    assert roles(plant.bank) == {"learned": 2, "waiting": 1}
    assert len(plant.bank.calibration[0].scores) == len(plant.split.calibration["ring"])
    (said,) = (one for one in learned.said if "the promise does not hold for the parts of now" in one)
    assert "more of them are called good" in said


def test_a_version_that_would_lose_a_defect_is_not_published(plant: Plant) -> None:
    defects = plant.come(scratched_part, 50)
    plant.say("bad", defects[:2])
    plant.say("good", defects[2:])  # by mistake
    learned = plant.learn()
    assert plant.bank.version == plant.first.version
    assert learned.bank is not None
    assert len(learned.blocked) == 2
    for one, said in zip(sorted(one.data.result_id for one in defects[:2]), sorted(learned.blocked), strict=True):
        assert said.startswith(f"{one} (bad, Ilse) would no longer be found: it scores ")
        assert said.endswith("its score fell, because something that was called good looks like it")
    with pytest.raises(DataError, match="would no longer be found"):
        plant.learner().publish(learned)

    plant.say("bad", defects[2:])
    assert plant.learn().bank is None, "put right, there is nothing to learn"


def test_defects_alone_make_no_version_and_are_kept(plant: Plant) -> None:
    plant.say("bad", plant.come(scratched_part, 3))
    assert plant.learn().bank is None
    plant.kafka.frames.clear()  # Kafka forgets
    plant.kafka.fetched = 0
    plant.say("good", alerts(plant.come(glossy_part, 2)))
    plant.learn()
    assert roles(plant.bank)["found"] == 3
    assert plant.kafka.fetched == 2


def test_a_defect_that_no_version_finds_blocks_none_until_one_does(plant: Plant) -> None:
    plant.say("bad", plant.come(good_part, 1))
    plant.say("good", alerts(plant.come(glossy_part, 2)))
    learned = plant.learn()
    assert "is found neither by the version in service nor by this one" in " ".join(learned.said)
    assert roles(plant.bank)["missed"] == 1


def test_whoever_changes_his_mind_is_heard(plant: Plant) -> None:
    rejected = gloss_comes(plant, 20)
    plant.learn()
    learned = [name for name, word in words_in(plant.bank.manifest.history).items() if word.role == "learned"]
    changed = [one for one in rejected if one.data.result_id == learned[0]]
    plant.say("bad", changed, at="2026-01-03T00:00:00Z")
    withdrawn = learned[1]
    del plant.kafka.words[withdrawn]
    plant.learn()
    words = words_in(plant.bank.manifest.history)
    assert (words[learned[0]].verdict, words[learned[0]].role) in {("bad", "missed"), ("bad", "found")}
    assert words[withdrawn].role == "left_out"
    assert roles(plant.bank)["learned"] == 8


def test_the_same_photograph_counts_once(plant: Plant) -> None:
    rejected = gloss_comes(plant, 4)
    twice = rejected[:4]
    first = plant.count
    for n, one in enumerate(twice):  # published anew: other results of the same pictures
        plant.kafka.frames[position(first + n)] = replace(
            plant.kafka.frames[one.position], position=position(first + n)
        )
    plant.say("good", [renamed(one, first + n) for n, one in enumerate(twice)])
    learned = plant.learn()
    assert sum("shows the same part as" in said and "counts once" in said for said in learned.said) == 4
    assert roles(plant.bank)["left_out"] == 4
    assert roles(plant.bank)["learned"] + roles(plant.bank)["waiting"] == 4


def test_contradictions_are_told_and_left_out(plant: Plant) -> None:
    (one, other, *_) = gloss_comes(plant, 2)
    number = plant.count
    plant.kafka.frames[position(number)] = replace(plant.kafka.frames[one.position], position=position(number))
    plant.say("bad", [renamed(one, number)])
    learned = plant.learn()
    (said,) = (said for said in learned.said if "one is called good and the other bad" in said)
    assert one.data.result_id in said
    assert f"frames:0:{number}" in said
    words = words_in(plant.bank.manifest.history)
    assert words[one.data.result_id].role == words[f"frames:0:{number}"].role == "left_out"
    assert words[other.data.result_id].role in {"learned", "waiting"}


def test_what_was_rolled_back_is_not_learned_again_unasked(plant: Plant) -> None:
    rejected = gloss_comes(plant, 20)
    plant.learn()
    taught = plant.bank.version
    plant.store.activate(LINE, plant.first.version)
    learned = plant.learn()
    assert learned.bank is None
    assert "20 pictures called good were in a version that was rolled back" in " ".join(learned.said)

    plant.say("good", rejected[:1], at="2026-02-01T00:00:00Z")  # said anew
    plant.learn()
    assert roles(plant.bank)["learned"] == 1
    plant.learn(rolled_back=True)
    assert roles(plant.bank)["learned"] + roles(plant.bank)["waiting"] + roles(plant.bank)["calibrating"] == 20
    assert taught in {one.version for one in plant.store.versions(LINE)}


def test_a_line_that_was_given_another_bank_in_the_meantime(plant: Plant) -> None:
    gloss_comes(plant, 4)
    learner = plant.learner()
    learned = learner.learn(plant.kafka.words)
    other = replace(
        plant.first, manifest=plant.first.manifest.model_copy(update={"created_at": "2026-05-05T00:00:00Z"})
    )
    plant.store.publish(LINE, other)
    with pytest.raises(DataError, match="another bank in the meantime; learn again"):
        learner.publish(learned)
    assert plant.bank.version == other.version


def test_frames_that_are_gone_are_told(plant: Plant) -> None:
    rejected = gloss_comes(plant, 3)
    del plant.kafka.frames[rejected[0].position]
    learned = plant.learn()
    assert f"{rejected[0].data.result_id} (good, Ilse): {rejected[0].position}: the frame is gone" in learned.said
    assert roles(plant.bank).total() == 2


@pytest.mark.parametrize(
    ("more", "headers", "says"),
    [
        ({"product": "screw"}, {}, "the bank holds bracket, ring, and no 'screw'; correct the product"),
        ({}, {"product": "bracket"}, "it looks like 'ring', not like what was declared; say which product it is"),
        ({"product": "ring"}, {"product": "bracket"}, None),
        ({}, {"camera": "odd"}, "the camera 'odd' has another region or bit_depth than the bank was fitted with"),
    ],
)
def test_good_ones_that_cannot_be_learned_from(
    tmp_path: Path, more: dict[str, str], headers: dict[str, str], says: str | None
) -> None:
    odd = {"region": {"x": 1, "y": 1, "width": 30, "height": 30}}
    plant = Plant(tmp_path, products=("bracket", "ring"), cameras={"odd": odd})
    of = alerts(plant.come(good_part, 1, **headers)) or plant.come(glossy_part, 1, **headers)
    plant.say("good", of[:1], **more)
    learned = plant.learn()
    if says is None:
        (word,) = words_in(plant.bank.manifest.history).values()
        assert (word.product, word.role) == ("ring", "learned")
    else:
        (said,) = learned.said
        assert said.startswith(f"{of[0].data.result_id} (good, Ilse): ")
        assert says in said
        assert learned.bank is None


@pytest.mark.parametrize(("kind", "error"), [("another engine", MismatchError), ("other pictures", DataError)])
def test_a_bank_of_another_line_is_refused(plant: Plant, kind: str, error: type[Exception]) -> None:
    if kind == "another engine":
        manifest = plant.first.manifest.model_copy(update={"engine": "other"})
    else:
        manifest = plant.first.manifest.model_copy(update={"products": ("screw",)})
    plant.store.publish(LINE, replace(plant.first, manifest=manifest))
    with pytest.raises(error):
        plant.learner().learn(plant.kafka.words)


def test_a_picture_that_cannot_be_judged_is_no_reason_to_stop(plant: Plant) -> None:
    (one,) = plant.come(good_part, 1)
    plant.kafka.frames[position(0)] = frame(b"no picture", 0)
    plant.say("bad", [renamed(one, 0)])
    assert "cannot be inspected" in " ".join(plant.learn().said)


def position(offset: int) -> Position:
    return frame(b"", offset).position


def renamed(verdict: Verdict, offset: int) -> Verdict:
    """As if it were of another frame."""
    return replace(verdict, data=verdict.data.model_copy(update={"result_id": f"frames:0:{offset}"}))
