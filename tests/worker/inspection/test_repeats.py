from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.inspection.repeats import Repeats, digest_of
from quarterturn.worker.messages.frames import Position

sent = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.integers(0, 255)), max_size=40)


def in_a_row(pictures: list[int]) -> int:
    """How often the last of some pictures came in a row at their end."""
    return next((n for n, one in enumerate(reversed(pictures)) if one != pictures[-1]), len(pictures))


@settings(max_examples=100)
@given(sent, st.data())
def test_what_came_in_a_row_is_counted_by_camera_and_partition_and_rewinds_change_nothing(
    frames: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    repeats = Repeats()
    for end in range(1, len(frames) + 1):
        back = data.draw(st.integers(0, end - 1)) if end % 5 == 0 else end - 1  # now and then, a batch comes again
        for offset in range(back, end):
            camera, partition, picture = frames[offset]
            before = [one for *key, one in frames[: offset + 1] if key == [camera, partition]]
            assert repeats.times(camera, Position("frames", partition, offset), picture) == in_a_row(before)


def test_another_topic_counts_by_itself() -> None:
    repeats = Repeats()
    assert [repeats.times("a", Position(topic, 0, 7), 1) for topic in ("old", "new", "new")] == [1, 1, 1]


def test_one_pixel_makes_another_picture() -> None:
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    other = frames.copy()
    other[1, 31, 31, 2] = 1
    assert digest_of(frames) == digest_of(np.asfortranarray(frames)) != digest_of(other)
