"""A line without Kafka: pictures by the active bank. With Kafka: tests/end_to_end/test_explain.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.contract.bank import Bank, ScoringSettings
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.explain.results import Line
from quarterturn.worker.settings.worker import WorkerSettings
from tests.parts import NumpyPlacesEngine, bank_of, good_part, png, png_of_depth, scratched_part


@pytest.fixture(scope="module")
def made() -> tuple[NumpyPlacesEngine, Bank]:
    engine = NumpyPlacesEngine()
    return engine, bank_of(engine, ("ring", "bracket"), count=60, scoring=ScoringSettings(coreset=40))


def line_of(made: tuple[NumpyPlacesEngine, Bank], folder: Path, **changes: Any) -> Line:
    document = {
        "line": "line-1",
        "engine": {"path": "engine"},
        "bank": {"file": {"path": str(folder / "banks")}},
        "transport": {"folder": {"path": str(folder), "out": str(folder / "out.jsonl")}},
        "overkill": 0.02,
        "cameras": {"rings": {"products": ["ring"]}, "deep": {"bit_depth": 12}},
        **changes,
    }
    store = FileBankStore(folder / "banks")
    store.publish("line-1", made[1])
    return Line(WorkerSettings.model_validate(document), made[0], store)


def test_a_picture_is_judged_by_the_active_bank(made: tuple[NumpyPlacesEngine, Bank], tmp_path: Path) -> None:
    line, path = line_of(made, tmp_path), tmp_path / "part 7.png"
    path.write_bytes(png(scratched_part(np.random.default_rng(1))))
    found = line.file(path)
    assert (found.alert, found.bank, found.product) == ("defect", made[1].version, "ring")
    assert (found.notes, found.same_score, found.result_id) == ((), None, None)
    assert [beside.admissible for beside in found.products] == [True, True]
    declared = line.file(path, product="bracket")
    assert declared.product == "bracket"
    as_seen = line.file(path, camera="rings")
    assert [beside.admissible for beside in as_seen.products] == [True, False]
    assert [(one.file, one.camera) for one in (found, as_seen)] == [("part 7.png", None), ("part 7.png", "rings")]


def test_a_cameras_bit_depth_counts(made: tuple[NumpyPlacesEngine, Bank], tmp_path: Path) -> None:
    line, path = line_of(made, tmp_path), tmp_path / "deep.png"
    path.write_bytes(png_of_depth(good_part(np.random.default_rng(1)), 12))
    assert line.file(path, camera="deep").alert is None
    assert line.file(path).alert is not None  # read as 16 bits it is dark


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        ({"path": "gone.png"}, DataError, r"gone\.png: cannot be read \(No such file"),
        ({"path": "text.png"}, DataError, r"text\.png: cannot be judged: "),
        ({"path": "good.png", "product": "nut"}, DataError, r"cannot be judged: product nut is not in the bank"),
        ({"path": "good.png", "camera": "top"}, ConfigError, r"camera top: is not listed under cameras \(rings, de"),
    ],
    ids=str,
)
def test_what_cannot_be_explained_is_one_sentence(
    made: tuple[NumpyPlacesEngine, Bank], tmp_path: Path, what: dict[str, str], error: type[Exception], said: str
) -> None:
    line = line_of(made, tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "good.png").write_bytes(png(good_part(np.random.default_rng(1))))
    with pytest.raises(error, match=said) as caught:
        line.file(**{**what, "path": tmp_path / what["path"]})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_results_need_kafka_and_an_id(made: tuple[NumpyPlacesEngine, Bank], tmp_path: Path) -> None:
    line = line_of(made, tmp_path)
    with pytest.raises(ConfigError, match=r"transport\.kafka is missing; .* name a picture FILE instead"):
        line.result("frames:0:7")
    with pytest.raises(DataError, match="is no id of a result"):
        line.result("part 8.png")


def test_a_bank_of_another_engine_is_refused(made: tuple[NumpyPlacesEngine, Bank], tmp_path: Path) -> None:
    line = line_of(made, tmp_path)
    (tmp_path / "good.png").write_bytes(png(good_part(np.random.default_rng(1))))
    other = Line(line.settings, NumpyPlacesEngine(name="another"), line.store)
    with pytest.raises(MismatchError, match="was made by engine numpy-places"):
        other.file(tmp_path / "good.png")


def test_a_broker_that_does_not_answer_leaves_a_picture_explained(
    made: tuple[NumpyPlacesEngine, Bank], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quarterturn.worker.transport.kafka import connection

    monkeypatch.setattr(connection, "ANSWER_S", 0.5)
    line = line_of(made, tmp_path, transport={"kafka": {"bootstrap_servers": "127.0.0.1:1"}})
    (tmp_path / "good.png").write_bytes(png(good_part(np.random.default_rng(1))))
    found = line.file(tmp_path / "good.png")
    assert found.alert is None
    (note,) = found.notes
    assert note.startswith("the line's verdicts were not read: ")
