"""The process that runs a benchmark's tests. It never sees the candidate's code, only plain data that it returns."""

import builtins
import sys

from .plain_data import Channel, ClosedError, decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class CandidateError(Exception):
    """The candidate raised something that is no built-in exception."""


class Candidate:
    """A function of the candidate program, as the tests call it."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel, self._name = channel, name
        self.answers = 0

    def __call__(self, *arguments: "Any", **named: "Any") -> "Any":
        """Raises a built-in exception of the name that the candidate raised, or CandidateError."""
        self._channel.send((self._name, arguments, named))
        outcome, content = self._channel.receive()
        self.answers += 1
        if outcome == "returned":
            return content
        kind = getattr(builtins, str(content), None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            raise kind("raised by the program")
        raise CandidateError(str(content))


def check(channel: Channel) -> tuple[str, str]:
    """Runs (setup, entry point, tests) of its standard input; returns outcome and detail.

    The setup makes the names that the tests use beside the entry point, whose place the candidate's function takes;
    it is `candidate`, too.
    """
    setup, entry_point, source = decode(sys.stdin.buffer.read())
    names: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(setup, "setup.py", "exec"), names)
        tests = compile(source, "tests.py", "exec")
    except Exception as error:
        return "bad tests", f"{type(error).__name__}: {error}"
    try:
        outcome, content = channel.receive()
        if outcome != "loaded":
            return "failed", f"the program can't be loaded: {content}"
        candidate = Candidate(channel, entry_point)
        names |= {entry_point: candidate, "candidate": candidate}
        exec(tests, names)
    except ClosedError as error:
        return "failed", str(error)
    except AssertionError:
        return "failed", "a wrong answer"
    except BaseException as error:
        return "failed", type(error).__name__
    if not candidate.answers:
        return "bad tests", "the tests never call the program"
    return "passed", ""
