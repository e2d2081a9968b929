"""The oracle itself: it sees what is lost, doubled, out of order and wrong."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.ledger import Account, Ledger
from tests.chaos.line import Expected

EXPECTED = {("good", "b1"): Expected(None, 0.5), ("bad", "b1"): Expected("defect", 3.0)}
PUBLISHED = {(0, 0): (0, "good"), (0, 1): (1, "bad"), (1, 0): (2, "good"), (0, 2): (3, "cut")}


class Message:
    def __init__(self, kind: str, place: tuple[int, int], **data: Any) -> None:
        self._headers = [("ce_type", f"quarterturn.{kind}.v1".encode())]
        self._value = json.dumps({"frame": {"partition": place[0], "offset": place[1]}, **data}).encode()

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers

    def value(self) -> bytes:
        return self._value


def verdict(place: tuple[int, int], alert: str | None = None, score: float = 0.5, kind: str = "verdict") -> Message:
    return Message(kind, place, alert=alert, score=score, internalConfigurationId="b1")


GOOD = [
    verdict((0, 0)),
    verdict((0, 1), "defect", 3.0),
    verdict((0, 1), "defect", 3.0, kind="alert"),
    verdict((1, 0)),
    Message("dead_letter", (0, 2), reason="truncated"),
]


def account(messages: list[Message], published: dict[tuple[int, int], tuple[int, str]] = PUBLISHED) -> Account:
    ledger = Ledger(SimpleNamespace(published=published), EXPECTED)  # type: ignore[arg-type]
    for message in messages:
        ledger._enter(message)
    return ledger.account()


def test_a_calm_line() -> None:
    assert account(GOOD) == Account(frames=4, verdicts=3, alerts=1, dead_letters=1, lost=0, doubled=0, faults=())


def test_a_frame_without_a_result_is_lost() -> None:
    assert account(GOOD[:-2]).lost == 2


def test_a_second_result_is_one_too_many() -> None:
    assert account([*GOOD, verdict((1, 0))]).doubled == 1
    assert account([*GOOD, Message("dead_letter", (1, 0), reason="empty")]).doubled == 1


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([GOOD[1], GOOD[0], *GOOD[2:]], "came after that of offset 1"),
        ([*GOOD[:2], *GOOD[3:]], "1 verdicts without their alert"),
        ([*GOOD, GOOD[2]], "1 alerts came twice"),
        ([*GOOD, verdict((1, 0), "defect", 3.0, kind="alert")], "1 alerts without their verdict"),
        ([verdict((0, 0), "defect", 3.0), *GOOD[1:]], "(0, 0) shows good, and got defect 3.0"),
        ([verdict((0, 0), None, 0.6), *GOOD[1:]], "(0, 0) shows good, and got None 0.6"),
        ([*GOOD[:-1], Message("dead_letter", (0, 2), reason="empty")], "(0, 2) is cut off, and got empty"),
        ([*GOOD, verdict((3, 0))], "1 results of frames that nobody sent"),
    ],
)
def test_what_is_wrong_is_said(messages: list[Message], fault: str) -> None:
    assert any(fault in one for one in account(messages).faults)


def test_a_frame_published_twice_is_the_cameras_fault() -> None:
    published = {**PUBLISHED, (1, 1): (2, "good")}
    assert "published twice" in account([*GOOD, verdict((1, 1))], published).faults[0]
