"""What is known of a camera after each of its last frames: frames that come again find what was known before them."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

from quarterturn.worker.messages.frames import Position

State = TypeVar("State")

_CAMERAS = 1000  # that are remembered; whoever may publish frames may make up names
_FRAMES = (
    300  # of a camera and partition that are remembered: more than two of the largest batches, which may come again
)

_Place = tuple[str, str, str | None, int, int]


class History(Generic[State]):
    """The states of cameras, each partition by itself, after each of their last frames; of one thread.

    A partition's frames come in the order of their offsets; where one comes again, all from it on do. A state must not
    change: it is given back as it is. Behind frames that others were given nothing is known, see `Position.stretch`. At
    most `cameras` are remembered.
    """

    def __init__(self, cameras: int = _CAMERAS) -> None:
        self._cameras = cameras
        self._states: OrderedDict[_Place, deque[tuple[int, State]]] = OrderedDict()

    def before(self, camera: str, position: Position) -> State | None:
        """The state after the last frame before `position`; None where none is known."""
        states = self._states.get(_place(camera, position), ())
        return next((state for offset, state in reversed(states) if offset < position.offset), None)

    def put(self, camera: str, position: Position, state: State) -> None:
        """Remember the state after the frame at `position`, and forget those after it."""
        place = _place(camera, position)
        states = self._states.setdefault(place, deque(maxlen=_FRAMES))
        self._states.move_to_end(place)
        if len(self._states) > self._cameras:
            self._states.popitem(last=False)
        while states and states[-1][0] >= position.offset:
            states.pop()
        states.append((position.offset, state))


def _place(camera: str, position: Position) -> _Place:
    return camera, position.topic, position.topic_id, position.partition, position.stretch
