"""Extracting programs where a text that Python's parser can't stand costs one verdict: in processes with limits."""

import os
import resource
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as OutOfTimeError
from dataclasses import dataclass
from multiprocessing import get_context

from evals.program_extraction import extract_program

LONGEST = 1_000_000
"""Characters of a completion that a program is looked for in."""
SECONDS = 5
_MEMORY_BYTES = 2 << 30
_AT_ONCE = 32  # what a process is sent together


@dataclass(frozen=True)
class Extracted:
    """A program, empty where there is none, and then why."""

    program: str
    why: str = "no program in the completion"


def extract_programs(asked: Sequence[tuple[str, str, str]], cores: int | None = None) -> list[Extracted]:
    """The programs of (completion, entry point, problem) triples, in their order."""
    from pebble import ProcessExpired, ProcessPool  # here, since vLLM's environment has none and extracts nothing

    if not asked:
        return []
    workers = min(cores or len(os.sched_getaffinity(0)), 1 + len(asked) // _AT_ONCE)
    with ProcessPool(workers, initializer=_confine, context=get_context("spawn")) as pool:
        waiting = [pool.schedule(_extract, each, timeout=SECONDS) for each in asked]

        def results() -> Iterator[Extracted]:
            for future in waiting:
                try:
                    yield Extracted(future.result())
                except OutOfTimeError:
                    yield Extracted("", f"no program was found in the completion within {SECONDS} s")
                except (ProcessExpired, RecursionError, MemoryError):
                    yield Extracted("", "the completion is more than Python's parser can take")

        return list(results())


def _extract(completion: str, entry_point: str, problem: str) -> str:
    return extract_program(completion[:LONGEST], entry_point, problem)


def _confine() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.set_int_max_str_digits(0)  # as where the program runs
