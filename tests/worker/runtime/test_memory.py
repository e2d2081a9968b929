from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


RESIDENT_BEFORE_AND_AFTER = """
from pathlib import Path
import numpy as np
from quarterturn.worker.runtime.memory import give_back_freed_memory, keep_freed_memory
def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) // 256
keep_freed_memory()
give_back_freed_memory()
before, used, kept = resident_mb(), [np.ones(2**17) for _ in range(200)], np.ones(2**17)
del used
freed = resident_mb()
give_back_freed_memory()
print(freed - before, resident_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_freed_memory_is_given_back_when_asked_though_something_lies_behind_it() -> None:
    ran = subprocess.run([sys.executable, "-c", RESIDENT_BEFORE_AND_AFTER], check=True, capture_output=True)
    freed_mb, given_back_mb = map(int, ran.stdout.split())
    assert freed_mb > 190
    assert given_back_mb < 10


GROWN_BY_SWAPS = """
import logging, queue, sys
from pathlib import Path
import numpy as np
from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.runtime import assemble
from quarterturn.worker.runtime.memory import keep_freed_memory
from quarterturn.worker.settings.worker import WorkerSettings
from tests.parts import NumpyEngine, bank_of
class GreedyStore(FileBankStore):
    def load(self, line, version):
        used = [np.ones(2**17) for _ in range(200)]
        return super().load(line, version)
def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) // 256
said = queue.Queue()
class Said(logging.Handler):
    def emit(self, record):
        said.put(record.getMessage())
logging.getLogger("quarterturn").addHandler(Said())
logging.getLogger("quarterturn").setLevel(logging.INFO)
folder, engine = Path(sys.argv[1]), NumpyEngine()
keep_freed_memory()
assemble.open_engine = lambda _: engine
assemble.open_store = lambda _: GreedyStore(folder / "banks")
banks = [bank_of(engine, count=60, seed=seed) for seed in range(4)]
FileBankStore(folder / "banks").publish("line-1", banks[0])
settings = WorkerSettings.model_validate({
    "line": "line-1",
    "engine": {"path": "engine"},
    "bank": {"file": {"path": folder / "banks"}, "poll_s": 0.05},
    "transport": {"folder": {"path": folder, "out": folder / "out.jsonl"}},
    "overkill": 0.02,
    "http": None,
})
before = resident_mb()
with assemble.build_service(settings):
    for bank in banks:
        FileBankStore(folder / "banks").publish("line-1", bank)
        while bank.version[:12] not in (message := said.get(timeout=30)) or "in service" not in message:
            pass
    print(resident_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_what_reading_a_bank_takes_is_given_back(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(b"")
    ran = subprocess.run([sys.executable, "-c", GROWN_BY_SWAPS, str(tmp_path)], check=True, capture_output=True)
    assert int(ran.stdout) < 50
