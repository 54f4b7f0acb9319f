"""Failures that a user can cause and mend, signals that ask for the end, and all others in a line."""

import errno
import os
import resource
import signal
from types import FrameType

arrived: list[int] = []
"""Signals that were answered: a library in the midst of an import may make another error of the interruption."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU)


class UserError(Exception):
    """One clear line that says what is wrong and what to do; shown without a traceback, exit code 2."""


class NotInTableError(UserError):
    """What the user selected is no part of a table, or of the preset: of `all`, the table is left out."""


class CheckError(Exception):
    """Numbers got worse than the reference: a line for each that did, exit code 1."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(*lines)
        self.lines = lines


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end: Ctrl-C, a cluster that will kill soon, a terminal that closes, a limit on time."""

    def __init__(self, number: int, line: str = "") -> None:
        spent = "; the limit on processor time is reached (ulimit -t)" if number == signal.SIGXCPU else ""
        super().__init__((line or "interrupted") + spent)
        self.number = number


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raises Interrupted: what answers a signal."""
    arrived.append(number)
    raise Interrupted(number)


def end_on_signals() -> None:
    """Has the signals that ask for an end answered, but for those that the caller had ignored (nohup)."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:  # at the hard limit the kernel kills without a word
        early = max(1, hard - 2)
        resource.setrlimit(resource.RLIMIT_CPU, (early if soft == resource.RLIM_INFINITY else min(soft, early), hard))


def causes(error: BaseException) -> str:
    """Class and words of an error and of what led to it, in one line."""
    from textwrap import shorten  # as below

    chain = [error]
    while cause := chain[-1].__cause__ or (None if chain[-1].__suppress_context__ else chain[-1].__context__):
        chain.append(cause)
    return ", because of ".join(shorten(f"{type(link).__name__}: {link}", 200) for link in chain)


def no_space(error: BaseException) -> bool:
    """Whether it says that a disk or a quota is full: safetensors has an error class of its own for that."""
    return any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))


def refused(error: BaseException) -> bool:
    """Whether it is a line for the user: a ValueError that this project's own code raised, and no library's."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    package = place.tb_frame.f_globals["__name__"].partition(".")[0] if place is not None else ""
    return isinstance(error, ValueError) and package in ("impact", "baselines", "evals", "experiments")


def unexpected(error: Exception) -> str:
    """A line on a failure that nobody foresaw: its class and words, those of its causes, where its traceback is."""
    import tempfile  # what every start would pay for, and hardly any needs
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="reproduce-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    return f"{causes(error)} (nobody foresaw this; its traceback, for a bug report, is in {file.name})"
