"""What is odd about a frame that can be inspected all the same: counted, and said once for each camera."""

from __future__ import annotations

from typing import Literal

from quarterturn.worker.contract.traits import Trait

Notice = Literal["unlisted_camera", "clock_ahead", "depth_in_doubt", Trait]
"""The kinds; each is a label of a metric, and stands in docs/reliability.md."""
