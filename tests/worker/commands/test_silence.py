"""What `quarterturn silence` refuses; tests/end_to_end/test_alerts.py shows it at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterturn.worker.commands.main import main
from tests.worker.commands.settings import FOLDER, KAFKA, worker_yaml

REASON = ("--reason", "the lamp is changed")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("transport", "arguments", "sentence"),
    [
        (KAFKA, ("--camera", "a"), "a silence needs --minutes and --reason"),
        (KAFKA, ("--camera", "a", "--minutes", "5"), "a silence needs --minutes and --reason"),
        (KAFKA, ("--camera", "a", "--minutes", "inf", *REASON), "--minutes inf: must be above 0"),
        (KAFKA, ("--camera", "a", "--minutes", "nan", *REASON), "--minutes nan: must be above 0"),
        (KAFKA, ("--camera", "a", "--minutes", "-5", *REASON), "--minutes -5: must be above 0"),
        (KAFKA, ("--product", "", "--minutes", "5", *REASON), "the silence: product = ''"),
        (KAFKA, ("--minutes", "5", *REASON), "say of which --camera or --product"),
        (KAFKA, ("--minutes", "0"), "say of which --camera or --product"),
        (KAFKA, ("--by", "Ilse"), "say of which --camera or --product"),
        (KAFKA, ("--camera", "a", "--end", "--minutes", "5"), "--end ends a silence now; leave --minutes"),
        (KAFKA, ("--camera", "a", "--end", "--by", "Ilse"), "--end ends a silence now; leave --minutes"),
        (KAFKA, ("--end",), "say of which --camera or --product"),
        (KAFKA, ("--camera", "a", "--end"), "Kafka at localhost:1 cannot be used"),
        (
            FOLDER,
            ("--camera", "a", "--end"),
            "transport.kafka is missing; write silences into 'silences' of the settings",
        ),
    ],
    ids=str,
)
def test_what_is_no_silence_is_refused_in_a_sentence(
    transport: str, arguments: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = worker_yaml(tmp_path, transport=transport)
    assert main(["silence", "--config", str(config), *arguments]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("quarterturn: ")
    assert sentence in said.err
    assert said.out == ""
