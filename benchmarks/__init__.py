"""Measurements of speed and accuracy, each in a process that is set up as the command line's are."""

import quarterturn.worker.commands  # noqa: F401  # before numpy is imported
