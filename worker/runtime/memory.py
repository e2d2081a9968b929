"""Memory that a process keeps: what one batch frees, the next one takes, without asking the system again."""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's mallopt(3)
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have malloc keep what is freed; False where the C library is not glibc, and nothing changes.

    glibc gives blocks of megabytes back at once, and every page of the next such block is faulted in and zeroed anew:
    a fifth of a training step, a third of a bank's search. The process stays as large as its largest batch made it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, _LARGEST) == 1 for name in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))


def give_back_freed_memory() -> None:
    """Give what was freed back to the system this once, as after work that the next batch does not do again.

    Without glibc nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_from_collection() -> None:
    """Have the garbage collector pass over what is there by now and stays: to go through it takes 50 ms each time."""
    gc.collect()
    gc.freeze()
