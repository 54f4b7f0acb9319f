"""The process that runs benchmarks' tests, for one candidate after another.

It never sees a candidate's code, only plain data that the candidate returns.
"""

import builtins
import socket
import sys
from typing import Any

from .plain_data import LENGTH_BYTES, Channel, ClosedError, decode, encode


class CandidateError(Exception):
    """The candidate raised something that is no built-in exception."""


class Candidate:
    """A function of the candidate program, as the tests call it."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel, self._name = channel, name
        self.answers = 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
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


def serve(control: int) -> None:
    """Judges one problem after another: each comes with the socket of its candidate, and is answered with a verdict."""
    with socket.socket(fileno=control) as supervisor:
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
    """Runs a problem's tests; returns outcome and detail.

    The setup makes the names that the tests use beside the entry point, whose place the candidate's function takes;
    it is `candidate`, too.
    """
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
