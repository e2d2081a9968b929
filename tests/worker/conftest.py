from __future__ import annotations

from hypothesis import settings

# The same examples in every run, and no clock: a busy machine is no reason to fail.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
