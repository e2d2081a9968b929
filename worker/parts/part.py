"""The result of a part, from what its cameras saw."""

from __future__ import annotations

from collections.abc import Sequence

from quarterturn.worker.contract.times import now
from quarterturn.worker.messages.parts import PartData, PartState, PartVerdict, Worst
from quarterturn.worker.parts.seen import Seen


def part_data(frames: Sequence[Seen], cameras: Sequence[str], state: PartState) -> PartData:
    """The result of a part that `cameras` should have seen, from at least one frame, in the order of reading."""
    product = frames[0].product
    frames = sorted(frames, key=lambda seen: (seen.time_s, seen.result_id))
    first, worst = frames[0], _worst(frames)
    by_camera: dict[str, list[str]] = {camera: [] for camera in sorted({seen.camera for seen in frames})}
    for seen in frames:
        by_camera[seen.camera].append(seen.result_id)
    late = sorted({seen.camera for seen in frames if seen.ratio is None})
    missing = [camera for camera in cameras if camera not in by_camera]
    return PartData(
        result_id=first.result_id,
        is_simulated=first.simulated,
        part_id=first.part_id,
        job_id=first.line,
        creation_time=now(),
        product_id=product,
        began_at=first.time,
        state=state,
        verdict=_verdict(worst, all_seen=not (late or missing)),
        alert=worst.alert if worst else None,
        worst=_said(worst) if worst else None,
        frames=by_camera,
        late=late,
        missing=missing,
    )


def _worst(frames: Sequence[Seen]) -> Seen | None:
    inspected = [seen for seen in frames if seen.ratio is not None]
    return max(inspected, key=_badness, default=None)


def _badness(seen: Seen) -> tuple[bool, bool, float, str]:
    """An unusable picture shows no part, so its score says nothing beside that of a usable one."""
    return _is_bad(seen), seen.alert is not None, seen.ratio or 0.0, seen.result_id


def _is_bad(seen: Seen) -> bool:
    return seen.alert not in (None, "unusable_picture")


def _verdict(worst: Seen | None, all_seen: bool) -> PartVerdict:
    if worst is not None and _is_bad(worst):
        return "bad"
    return "good" if all_seen and worst is not None and worst.alert is None else "not_inspected"


def _said(worst: Seen) -> Worst:
    return Worst(result_id=worst.result_id, camera=worst.camera, score_over_threshold=worst.ratio or 0.0)
