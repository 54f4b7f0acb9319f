"""The process of a candidate program: loads the source on its standard input and answers calls of its functions."""

import os
import sys

from .plain_data import Channel, ClosedError


def serve(descriptor: int) -> None:
    """Says whether the program could be loaded, then answers each call with what was returned or raised."""
    try:
        _serve(Channel(descriptor))
    except ClosedError:
        return


def _serve(channel: Channel) -> None:
    source = sys.stdin.buffer.read()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    module = type(sys)("program")
    sys.modules[module.__name__] = module  # dataclasses and enums look their module up
    try:
        exec(compile(source, "program.py", "exec"), module.__dict__)
    except BaseException as error:
        return channel.send(("failed", type(error).__name__))
    channel.send(("loaded", ""))
    while True:
        name, arguments, named = channel.receive()
        try:
            channel.send(("returned", getattr(module, name)(*arguments, **named)))
        except ClosedError:
            raise
        except BaseException as error:
            channel.send(("raised", type(error).__name__))
