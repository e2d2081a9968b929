"""A broker for tests that stop it, or damage what it holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import services


@pytest.fixture(scope="session")
def broker() -> Iterator[services.Broker]:
    """A broker that may be stopped, if it is started again."""
    with services.broker() as own:
        yield own
