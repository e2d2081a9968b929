"""The last results of a line, as they were recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from quarterturn.worker.learning.composition import Stream
from quarterturn.worker.messages.feedback import Feedback

LAST = 1000
"""Results that are looked at where nobody says."""

Result = dict[str, Any]
"""The data of a verdict, as it is published."""


class Results(Protocol):
    """Gives recorded results, such as `transport.kafka.results.ResultReader`."""

    def until_now(self) -> Iterator[Result]:
        """Those up to the last one now, each once."""
        ...


class Recent:
    """The last `last` verdicts; frames that nobody inspected do not count."""

    def __init__(self, results: Results, last: int = LAST) -> None:
        self._results = results
        self._recent: deque[Result] = deque(maxlen=last)

    def read(self) -> list[Result]:
        """Them, in the order of their creation, as far as partitions allow."""
        verdicts = [one for one in self._results.until_now() if "score" in one]
        self._recent.extend(sorted(verdicts, key=lambda one: str(one["creationTime"])))
        return list(self._recent)


def judged_as(result: Result) -> str | None:
    """The product whose score and threshold `result` holds; None where it looks like one that it was not judged as."""
    if result["productId"] or result["alert"] != "wrong_product":
        return str(result["productId"] or result["predictedProduct"])
    return None


def stream_of(results: Iterable[Result], words: Mapping[str, Feedback], version: str, product: str) -> Stream:
    """What the bank `version` said of the frames of `product`, behind the first that a person called good.

    It is the parts of now that count, not those before something changed. What counts is the score alone: the promise
    is one on scores.
    """
    ours = [one for one in results if one["internalConfigurationId"] == version and judged_as(one) == product]
    verdicts = [word.verdict if (word := words.get(one["resultId"])) else None for one in ours]
    first = verdicts.index("good") + 1 if "good" in verdicts else 0
    counted = list(zip(ours[first:], verdicts[first:], strict=True))
    beyond = [verdict for one, verdict in counted if one["score"] > one["threshold"]]
    return Stream(len(counted), len(beyond), beyond.count("good"), beyond.count("bad"))
