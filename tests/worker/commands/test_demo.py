"""What `quarterturn demo` refuses before minutes of training; tests/demo shows it at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterturn.worker.commands.main import main


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--kafka", "localhost:1"), "Kafka at localhost:1 cannot be used"),
        (("--story", "--kafka", "localhost:1"), "Kafka at localhost:1 cannot be used"),
        (("--redis", "redis://localhost:1"), "Redis at localhost:1 cannot be used"),
        (("--redis", "localhost:1"), "redis.url: its scheme is none of redis"),
        (("--story",), "demo --story renders its parts and needs Kafka"),
        (("--story", "--kafka", "localhost:1", "--data", "pictures"), "demo --story renders its parts and needs Kafka"),
    ],
    ids=str,
)
def test_a_service_that_is_away_is_told_before_anything_is_made(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["demo", "--out", str(out), *arguments]) == 1
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("**/*.*"))
