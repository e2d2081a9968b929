"""What `quarterturn feedback` refuses, and how it lists; tests/end_to_end/test_learning.py shows it at work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.commands import feedback as command
from quarterturn.worker.commands.main import main
from quarterturn.worker.contract.errors import UnavailableError
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.settings.worker import Topics
from quarterturn.worker.transport.kafka.producer import FramePublisher
from tests.parts import NumpyEngine, bank_of, good_part, png
from tests.worker.commands.settings import FOLDER, KAFKA, worker_yaml
from tests.worker.transport import librdkafka
from tests.worker.transport.workers import settings_for

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


@pytest.fixture
def line(kafka_bootstrap: str, create_topics: Callable[[int], Topics], tmp_path: Path) -> tuple[Path, str]:
    """A line's settings, and the start of the ids of its results; one frame came, a picture of 32 x 32 pixels."""
    topics = create_topics(1)
    with closing(FramePublisher(settings_for(kafka_bootstrap, topics))) as camera:
        camera.publish(b"top-01", {"camera": "top-01"}, png(good_part(np.random.default_rng(1))))
        camera.flush()
    FileBankStore(tmp_path / "banks").publish("line-1", bank_of(NumpyEngine()))
    named = json.dumps(topics.model_dump())
    config = worker_yaml(tmp_path, transport=f"kafka: {{bootstrap_servers: '{kafka_bootstrap}', topics: {named}}}")
    return config, f"{topics.frames}:{librdkafka.topic_id(kafka_bootstrap, topics.frames)}:0:"


@pytest.mark.parametrize(
    ("offset", "arguments", "sentence"),
    [
        (7, ("good",), "there is no such frame yet, the last frame of its partition is 0; correct the number"),
        (0, ("bad", "--product", "rnig"), "--product rnig: the line's bank holds ring"),
        (0, ("bad", "--region", "30,0,3,1"), "--region: reaches out of the picture, which is 32 x 32 pixels"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    line: tuple[Path, str], capsys: pytest.CaptureFixture[str], offset: int, arguments: tuple[str, ...], sentence: str
) -> None:
    config, start = line
    assert main(["feedback", "--config", str(config), f"{start}{offset}", *arguments]) == 1
    assert sentence in capsys.readouterr().err
    main(["feedback", "list", "--config", str(config)])
    assert "nobody has said anything yet" in capsys.readouterr().out


def test_a_word_on_what_is_there_is_stored_also_by_the_id_of_an_alert(
    line: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    config, start = line
    more = ("--product", "ring", "--region", "0,0,32,32", "--by", "Ilse")
    assert main(["feedback", "--config", str(config), f"alert:{start}0", "bad", *more]) == 0
    assert capsys.readouterr().out.split("\n")[0] == f"{start}0: bad, says Ilse"


def test_a_word_on_a_frame_that_is_gone_is_stored_and_that_is_said(
    line: tuple[Path, str], capsys: pytest.CaptureFixture[str], kafka_bootstrap: str
) -> None:
    config, start = line
    librdkafka.delete_before(kafka_bootstrap, start.split(":")[0], 1)
    assert main(["feedback", "--config", str(config), f"{start}0", "good"]) == 0
    said = capsys.readouterr().out
    assert "the frame was not looked at: " in said
    assert "retention has deleted it" in said


def test_who_may_write_words_need_not_read_frames(
    line: tuple[Path, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise UnavailableError("no permission for the topic 'frames'")

    monkeypatch.setattr("quarterturn.worker.transport.kafka.archive.FrameArchive.__init__", refused)
    config, start = line
    assert main(["feedback", "--config", str(config), f"{start}0", "good", "--by", "Ilse"]) == 0
    said = capsys.readouterr().out
    assert "the frame was not looked at: no permission for the topic 'frames'" in said
    assert f"{start}0: good, says Ilse" in said
