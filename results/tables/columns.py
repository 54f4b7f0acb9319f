"""The columns of a table: of each its header, how a value reads in it, and where it is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from results.numbers.shown import shown, shown_interval, shown_size


@dataclass(frozen=True)
class Column:
    """One column of a table: its header, and what stands there in a row.

    text: words and no numbers. key: it says, with the other keys, which model or claim a row is about. unmeasured: this
    run did not measure it. terminal, files: whether it is shown there. yields: on a narrow terminal this column gives
    way, and no other. width: the most characters that it takes there.
    """

    header: str
    shown: Callable[[Any], str]
    text: bool = False
    key: bool = False
    unmeasured: bool = False
    terminal: bool = True
    files: bool = True
    yields: bool = False
    width: int | None = None


def word(header: str, name: str = "", **where: Any) -> Column:
    """A column of words: the row's entry ``name``, or the one called as the header."""
    return Column(header, lambda row: shown(row[name or header], "s"), text=True, **where)


def number(header: str, name: str, spec: str = "g", **where: Any) -> Column:
    """A column of numbers formatted by ``spec``."""
    return Column(header, lambda row: shown(row[name], spec), **where)


def size(header: str, name: str) -> Column:
    """A column of sizes that may be far below a unit."""
    return Column(header, lambda row: shown_size(row[name]))


def interval(header: str, name: str, ends: str, spec: str) -> Column:
    """A column of numbers with the intervals from ``<ends>_low`` to ``<ends>_high``."""
    return Column(header, lambda row: shown_interval(row[name], row[f"{ends}_low"], row[f"{ends}_high"], spec))


def before_after(header: str, before: str, after: str, terminal: bool = False) -> Column:
    """A column of two perplexities."""
    return Column(
        f"ppl {header}", lambda row: f"{shown(row[before], '.4g')} → {shown(row[after], '.4g')}", terminal=terminal
    )


def printed(header: str, name: str, spec: str) -> Column:
    """A column of numbers that the paper prints."""
    return number(f"printed {header}", name, spec, unmeasured=True)
