"""The rivals, one file a method, on impact's layer interface."""

import logging

# Without a further package bitsandbytes has no fast 4-bit kernel for CPUs, and says so whenever it is imported.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
