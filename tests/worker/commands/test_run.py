from __future__ import annotations

import gc
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from quarterturn.worker.commands import run


def test_what_is_there_before_the_first_frame_is_not_gone_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection of all that was imported holds every thread up, and the frame that is under way."""
    frozen = []

    class Watching:
        def leave(self) -> None: ...

        def run(self, stop: threading.Event) -> None:
            frozen.append(gc.get_freeze_count())

    @contextmanager
    def build_service(settings: object) -> Iterator[Watching]:
        yield Watching()

    monkeypatch.setattr(run, "build_service", build_service)
    monkeypatch.setattr(run, "read_config", lambda *_: Namespace(drain_s=1.0))
    try:
        run.run(Namespace())
    finally:
        gc.unfreeze()
    assert frozen[0] > 10_000
