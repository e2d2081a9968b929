from __future__ import annotations

from annotated_types import Le
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.messages.frames import Position
from quarterturn.worker.messages.history import History
from quarterturn.worker.settings.worker import BatchSettings

sent = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1)), max_size=40)


@settings(max_examples=100)
@given(sent, st.data())
def test_a_frame_finds_what_was_known_before_it_also_when_it_comes_again(
    frames: list[tuple[str, int]], data: st.DataObject
) -> None:
    """The state here is the frames of a camera and partition so far, which shows what was put in and what was not."""
    history: History[tuple[int, ...]] = History()
    for end in range(1, len(frames) + 1):
        back = data.draw(st.integers(0, end - 1)) if end % 5 == 0 else end - 1  # now and then, a batch comes again
        for offset in range(back, end):
            camera, partition = frames[offset]
            position = Position("frames", partition, offset)
            so_far = tuple(n for n in range(offset) if frames[n] == frames[offset])
            assert history.before(camera, position) == (so_far or None)
            history.put(camera, position, (*so_far, offset))


def test_another_topic_begins_anew() -> None:
    history: History[str] = History()
    for place in (Position("frames", 0, 7, "a"), Position("frames", 0, 9, "b"), Position("others", 0, 9, "a")):
        assert history.before("top-01", place) is None
        history.put("top-01", place, "known")
        assert history.before("top-01", place) is None
        assert history.before("top-01", Position(place.topic, 0, 10, place.topic_id)) == "known"


def test_behind_frames_that_others_were_given_nothing_is_known() -> None:
    history: History[str] = History()
    history.put("top-01", Position("frames", 0, 7, stretch=1), "known")
    assert history.before("top-01", Position("frames", 0, 9, stretch=2)) is None
    assert Position("frames", 0, 7, stretch=1) == Position("frames", 0, 7, stretch=2)


def test_batches_that_come_again_find_their_state_and_older_frames_take_no_memory() -> None:
    history: History[int] = History()
    for n in range(1000):
        history.put("top-01", Position("frames", 0, n), n)
    assert history.before("top-01", Position("frames", 0, 1000 - 299)) == 1000 - 300
    assert history.before("top-01", Position("frames", 0, 1000 - 300)) is None


def test_names_made_up_take_no_memory() -> None:
    history: History[int] = History()
    for n in range(5000):
        history.put(f"camera {n}", Position("frames", 0, n), n)
    known = [n for n in range(5000) if history.before(f"camera {n}", Position("frames", 0, 5000)) is not None]
    assert known == list(range(4000, 5000))


def test_two_of_the_largest_batches_find_again_what_was_known_before_them() -> None:
    (most,) = (rule.le for rule in BatchSettings.model_fields["max_frames"].metadata if isinstance(rule, Le))
    history: History[int] = History()
    for offset in range(2 * most + 1):
        history.put("top-01", Position("frames", 0, offset), offset)
    assert history.before("top-01", Position("frames", 0, 1)) == 0
