"""The process that runs benchmarks' tests, for one candidate after another.

It never sees a candidate's code, only plain data that the candidate returns.
"""

import builtins
import socket
import sys
from typing import Any

from .plain_data import LENGTH_BYTES, Channel, ClosedError, decode, encode

_BY_THE_PROGRAM = "raised by the program"


class CandidateError(Exception):
    """The candidate raised something that is no built-in exception."""


class Candidate:
    """A function of the candidate program, as the tests call it."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel, self._name = channel, name
        self.called, self.answers = False, 0
        self.ended = ""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Raises a built-in exception of the name that the candidate raised, or CandidateError.

        ClosedError once it has ended, which `ended` says too: tests may swallow whatever is raised.
        """
        self.called = True
        try:
            self._channel.send((self._name, arguments, named))
            outcome, content = self._channel.receive()
        except ClosedError as error:
            self.ended = str(error)
            raise
        self.answers += 1
        if outcome == "returned":
            return content
        kind = getattr(builtins, str(content), None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            raise kind(_BY_THE_PROGRAM)
        if isinstance(kind, type) and issubclass(kind, BaseException):
            self.ended = f"the program ended by {content}"
            raise ClosedError(self.ended)
        raise CandidateError(str(content))


def serve(descriptor: int) -> None:
    """Judges one problem after another: each comes with the socket of its candidate, and is answered with a verdict."""
    with socket.socket(fileno=descriptor) as supervisor:
        while True:
            head, descriptors, _, _ = socket.recv_fds(supervisor, LENGTH_BYTES, 1)
            if not head:
                return
            problem = decode(_exactly(supervisor, int.from_bytes(head, "big")))
            candidate = socket.socket(fileno=descriptors[0])
            with candidate:
                verdict = encode(check(Channel(descriptors[0]), *problem))
            supervisor.sendall(len(verdict).to_bytes(LENGTH_BYTES, "big") + verdict)


def _exactly(supervisor: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += supervisor.recv(count - len(data)) or sys.exit()
    return data


def check(channel: Channel, setup: str, entry_point: str, source: str) -> tuple[str, str]:
    """Runs a problem's tests; returns outcome and detail: "failed" where the program ended, "refuted" by the tests.

    The setup makes the names that the tests use beside the entry point, whose place the candidate's function takes;
    it is `candidate`, too.
    """
    names: dict[str, Any] = {"__name__": "tests"}
    candidate = Candidate(channel, entry_point)
    try:
        exec(compile(setup, "setup.py", "exec"), names)
        tests = compile(source, "tests.py", "exec")
    except Exception as error:
        return "bad tests", f"{type(error).__name__}: {error}"
    try:
        outcome, content = channel.receive()
    except ClosedError as error:
        return "failed", str(error)
    except Exception as error:  # a forged message of another form
        return "failed", type(error).__name__
    if outcome != "loaded":
        return "failed", f"the program can't be loaded: {content}"
    try:
        names |= {entry_point: candidate, "candidate": candidate}
        exec(tests, names)
    except BaseException as error:
        if candidate.ended:
            return "failed", candidate.ended
        if not candidate.called:
            return "bad tests", f"before they call the program, {type(error).__name__}: {error}"
        return "refuted", _detail(error)
    if candidate.ended:
        return "failed", candidate.ended
    if not candidate.answers:
        return "bad tests", "the tests never call the program"
    return "passed", ""


def _detail(error: BaseException) -> str:
    if isinstance(error, AssertionError):
        return "a wrong answer"
    # What tests lack is worth saying; other messages may hold a program's answers, of any length.
    lacks = isinstance(error, NameError | ImportError) and str(error) != _BY_THE_PROGRAM
    return f"{type(error).__name__}: {error}" if lacks else type(error).__name__
