from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS_OF_50_BATCHES = """
import resource, sys
import numpy as np
from quarterturn.worker.runtime.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
np.ones(4_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(4_000_000)  # 32 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_freed_memory_is_taken_again_without_page_faults() -> None:
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS_OF_50_BATCHES, how], check=True, capture_output=True).stdout)
        for how in ("given back", "kept")
    )
    assert given_back > 50  # at least one for each, with pages of 2 MB even 16
    assert kept < 20
