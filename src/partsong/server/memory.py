"""Lets the C library give the memory of large bodies back to the system.

By default, glibc raises the size from which on it maps memory apart, up to 32 MiB, as soon as large blocks are freed.
From then on bodies and prompts lie among small objects, and their memory stays with the process after they are gone.
"""

import ctypes
import sys
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # from glibc's malloc.h
MAPPED = 256 * 1024  # bytes from which on a block is mapped apart


def give_memory_back() -> None:
    """Map large blocks apart, so that their memory is free as soon as they are. Has no effect without glibc."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED)
