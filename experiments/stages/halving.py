"""Halving a batch that doesn't fit into memory."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from experiments.errors import UserError


def halving(measure: Callable[[int], dict[str, Any]], batch_size: int, say: Callable[[str], None]) -> dict[str, Any]:
    """What `measure` returns, called with a batch size that is halved until the batch fits into memory.

    Each call measures everything anew, so that nothing is lost or counted twice. The batch size joins the
    measurements if it isn't the one that was asked for. Raises UserError if not even a single row fits.
    """
    size = batch_size
    while True:
        try:
            measured = measure(size)
            return measured if size == batch_size else {**measured, "batch_size": size}
        except Exception as error:
            if not _out_of_memory(error):
                raise
        # after the except clause, whose error holds on to what the batch had in memory
        clear_device_cache(garbage_collection=True)
        if size == 1:
            raise UserError("memory doesn't hold even one row at a time: it takes a device with more of it")
        say(f"{size} rows at a time don't fit into memory; starting again with {size // 2}")
        size //= 2


def _out_of_memory(error: Exception) -> bool:
    # the class in whatever words, and the words in whatever class: a CPU's allocator raises a plain RuntimeError
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error)
