"""The command line: one file a command. Whatever a process sets for itself alone is set here, never by an import."""

import os

# Before numpy is imported: its matrix products here are small, and threads only slow them down on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Before OpenCV is: what it has against a picture is in the FrameError.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
