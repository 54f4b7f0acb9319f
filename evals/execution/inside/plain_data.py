"""The only thing that crosses between a candidate program and its checker: plain data, in a format of a byte a type.

Nothing that arrives is ever executed or unpickled, and no object of the candidate's reaches the checker: a value
whose equality, length or truth the candidate has redefined arrives as its plain content or as `Opaque`. The standard
library's JSON would do, but takes longer to import than most programs take to run.
"""

import os

from .stdlib_data import built, described

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs as much as starting Python
    from typing import Any

LARGEST_MESSAGE = 16 << 20
LENGTH_BYTES = 4
_COLLECTIONS: "dict[bytes, Any]" = {b"l": list, b"t": tuple, b"S": set, b"z": frozenset, b"g": iter}


class Opaque:
    """Stands for a value that is no plain data; equal to nothing but itself."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name


class ClosedError(Exception):
    """The other side is gone or does not speak the protocol."""


def encode(value: object) -> bytes:
    """A tag, then the content: a number in hexadecimal up to ";", or a count up to ":" and as many bytes or items.

    The standard library's further numbers and collections are written as their kind and content. Subclasses lose what
    they add, iterators are drawn, other objects become opaque. The base classes' own methods read the content, so that
    overridden ones say nothing.
    """
    pieces: list[bytes] = []
    _write(value, pieces)
    return b"".join(pieces)


def _write(value: "Any", pieces: list[bytes]) -> None:
    if value is None or value is True or value is False:
        pieces.append({None: b"N", True: b"T", False: b"F"}[value])
    elif isinstance(value, int):
        pieces.append(b"i%x;" % int.__index__(value))
    elif isinstance(value, float):
        pieces.append(b"f%s;" % float.hex(value).encode())
    elif isinstance(value, str):
        _write_bytes(b"s", str.encode(value, "utf-8", "surrogatepass"), pieces)
    elif isinstance(value, bytes):
        _write_bytes(b"b", bytes(value), pieces)
    elif isinstance(value, complex):
        _write_items(b"c", [value.real, value.imag], pieces)
    elif isinstance(value, range):
        _write_items(b"r", [value.start, value.stop, value.step], pieces)
    elif found := described(value):
        _write_items(b"k", found, pieces)
    elif isinstance(value, dict):
        _write_items(b"d", [part for item in dict.items(value) for part in item], pieces)
    elif isinstance(value, list):
        _write_items(b"l", list.__iter__(value), pieces)
    elif isinstance(value, tuple):
        _write_items(b"t", tuple.__iter__(value), pieces)
    elif isinstance(value, set):
        _write_items(b"S", set.__iter__(value), pieces)
    elif isinstance(value, frozenset):
        _write_items(b"z", frozenset.__iter__(value), pieces)
    elif hasattr(type(value), "__next__"):
        _write_items(b"g", value, pieces)
    else:
        _write_bytes(b"o", type(value).__name__.encode("utf-8", "replace"), pieces)


def _write_bytes(tag: bytes, content: bytes, pieces: list[bytes]) -> None:
    pieces += [tag, b"%d:" % len(content), content]


def _write_items(tag: bytes, items: "Any", pieces: list[bytes]) -> None:
    place = len(pieces)
    pieces += [tag, b""]
    count = 0
    for item in items:
        _write(item, pieces)
        count += 1
    pieces[place + 1] = b"%d:" % count


def decode(data: bytes) -> "Any":
    """The value that `encode` was given. Raises ClosedError for anything that it can't have written."""
    try:
        value, end = _read(data, 0)
    except (ValueError, TypeError, IndexError, KeyError, ArithmeticError) as error:
        raise ClosedError(f"not plain data: {type(error).__name__}") from None
    if end != len(data):
        raise ClosedError("not plain data: more than one value")
    return value


def _read(data: bytes, start: int) -> "tuple[Any, int]":
    """The value that begins there, and where it ends."""
    tag, start = data[start : start + 1], start + 1
    if tag in b"NTF" and tag:
        return {b"N": None, b"T": True, b"F": False}[tag], start
    if tag in b"if" and tag:
        end = data.index(b";", start)
        text = data[start:end].decode()
        return (int(text, 16) if tag == b"i" else float.fromhex(text)), end + 1
    end = data.index(b":", start, start + 10)
    count, start = int(data[start:end]), end + 1
    if tag in b"sbo" and tag:
        content = data[start : start + count]
        if len(content) != count:
            raise ValueError("cut off")
        if tag == b"b":
            return content, start + count
        text = content.decode("utf-8", "surrogatepass")
        return (text if tag == b"s" else Opaque(text)), start + count
    items: list[Any] = []
    for _ in range(count):
        item, start = _read(data, start)
        items.append(item)
    if tag == b"d":
        return dict(zip(items[::2], items[1::2], strict=True)), start
    if tag == b"k":
        kind, content = items
        return built(kind, content), start
    if tag == b"c":
        return complex(*items), start
    if tag == b"r":
        return range(*items), start
    return _COLLECTIONS[tag](items), start


class Channel:
    """A stream socket that carries values."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, message: object) -> None:
        """Writes one value. Raises ValueError if it is too large, ClosedError if nobody reads."""
        data = encode(message)
        if len(data) > LARGEST_MESSAGE:
            raise ValueError("too much data")
        waiting = memoryview(len(data).to_bytes(LENGTH_BYTES, "big") + data)
        try:
            while waiting:
                waiting = waiting[os.write(self._descriptor, waiting) :]
        except OSError as error:
            raise ClosedError("nobody reads") from error

    def receive(self) -> "Any":
        """Reads one value. Raises ClosedError at the end of the stream and for what is no message."""
        length = int.from_bytes(self._read(LENGTH_BYTES), "big")
        if length > LARGEST_MESSAGE:
            raise ClosedError("too much data")
        try:
            return decode(self._read(length))
        except RecursionError:
            raise ClosedError("nested too deeply") from None

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                piece = os.read(self._descriptor, min(count - len(data), 1 << 20))
            except OSError:
                piece = b""
            if not piece:
                raise ClosedError("the program ended")
            data += piece
        return bytes(data)
