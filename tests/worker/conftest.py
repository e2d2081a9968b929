from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from quarterturn.worker.contract.bank import Bank, ScoringSettings
from tests.parts import NumpyEngine, NumpyPlacesEngine, bank_of
from tests.worker.dataset import write_masked, write_product

# The same examples in every run, and no clock: a busy machine is no reason to fail.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="module")
def engine() -> NumpyEngine:
    return NumpyEngine()


@pytest.fixture(scope="module")
def bank(engine: NumpyEngine) -> Bank:
    return bank_of(engine, ("bracket", "ring"))


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plant")
    for product in ("bracket", "ring"):
        write_product(root / product, product, train=1)
    return root


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_masked(tmp_path_factory.mktemp("masked") / "ring")


@pytest.fixture(scope="module")
def places() -> tuple[NumpyPlacesEngine, Bank]:
    engine = NumpyPlacesEngine()
    return engine, bank_of(engine, scoring=ScoringSettings(detectors=("frame", "nearest.middle")))
