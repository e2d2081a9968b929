from __future__ import annotations

import pytest

from tests.api.plant import Plant, make_plant
from tests.api.sinks import Feed
from tests.conftest import CreateTopics


@pytest.fixture(scope="session")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    """A user's engine, pictures and bank, made once per run."""
    return make_plant(tmp_path_factory.mktemp("plant"))


@pytest.fixture
def feed(kafka_bootstrap: str, create_topics: CreateTopics) -> Feed:
    """A new topic of verdicts."""
    return Feed(kafka_bootstrap, create_topics(1).verdicts)
