"""The worker: frames from a stream, scored against a bank of good parts, alerts out. Imports no torch."""

import os

# Set before numpy is imported: its matrix products here are small, and threads only slow them down on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
