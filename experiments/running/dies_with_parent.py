"""Imported by a process that must not outlive the one that started it: the kernel kills it then, on Linux.

The server of the children is busy importing for seconds after its start, and would go on doing so for a dead run.
"""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
