"""What `quarterturn feedback` refuses, and how it lists; tests/end_to_end/test_learning.py shows it at work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from quarterturn.worker.commands import feedback as command
from quarterturn.worker.commands.main import main
from quarterturn.worker.messages.feedback import Feedback
from tests.worker.commands.settings import FOLDER, KAFKA, worker_yaml

RESULT = "frames:7xzPKZ1HQPuVrZqCNFyXTQ:0:1841"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("transport", "arguments", "sentence"),
    [
        (KAFKA, (RESULT,), f"feedback {RESULT}: say whether the part is good or bad"),
        (KAFKA, ("part-8", "good"), "'part-8' is no id of a result"),
        (KAFKA, ("other:0:7", "good"), "other:0:7: is a result of the topic 'other', but this line's"),
        (KAFKA, (RESULT, "good", "--by", ""), "feedback: by = '': string should have at least 1 character"),
        (KAFKA, (RESULT, "good", "--by", " "), "feedback: by = ' ': it cannot be printed; write a name"),
        (KAFKA, (RESULT, "bad", "--product", ""), "feedback: product = '': string should have at least 1 character"),
        (KAFKA, (RESULT, "bad", "--region", "1,2,3"), "--region 1,2,3: write it as x,y,width,height in pixels"),
        (KAFKA, (RESULT, "bad", "--region", "1,2,0,4"), "--region: width = 0: input should be greater than 0"),
        (KAFKA, ("list", "good"), "feedback list: prints, and takes no verdict"),
        (KAFKA, ("list", "--region", "1,2,3,4"), "feedback list: prints, and takes no region"),
        (KAFKA, ("disagreements", "--by", "Ilse"), "feedback disagreements: prints, and takes no by"),
        (KAFKA, ("disagreements", "--fit", "none.yaml"), "none.yaml: there is no such file"),
        (KAFKA, (RESULT, "good"), "Kafka at localhost:1 cannot be used"),
        (FOLDER, ("list",), "transport.kafka is missing; what people say of results goes through Kafka"),
    ],
    ids=str,
)
def test_what_is_no_word_is_refused_in_a_sentence(
    transport: str, arguments: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["feedback", "--config", str(worker_yaml(tmp_path, transport=transport)), *arguments]) == 1
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("quarterturn: ")
    assert sentence in line
    assert said.out == ""


def test_a_narrow_terminal_cuts_nothing_of_a_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    word = {"resultId": RESULT, "verdict": "bad", "by": "Ilse of the second shift", "at": "2026-01-02T03:04:05Z"}
    said = {
        RESULT: Feedback.model_validate(
            {**word, "product": "bracket", "region": {"x": 1, "y": 2, "width": 3, "height": 4}}
        )
    }

    @contextmanager
    def words(_: object) -> Iterator[Mapping[str, Feedback]]:
        yield said

    monkeypatch.setattr(command, "words", words)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["feedback", "list", "--config", str(worker_yaml(tmp_path, transport=KAFKA))]) == 0
    listed = capsys.readouterr().out
    for cell in (RESULT, "Ilse of the second shift", "2026-01-02T03:04:05Z", "bracket", "1,2,3,4"):
        assert cell in listed
