from __future__ import annotations

import pytest

from tests.api.plant import Plant, make_plant


@pytest.fixture(scope="session")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    """A user's engine, pictures and bank, made once per run."""
    return make_plant(tmp_path_factory.mktemp("plant"))
