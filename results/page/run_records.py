"""Where a cell's numbers come from: the runs that it names, as far as a store has them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from results.files import read_bounded, unseal
from results.tables.html import anchor

RECORD = "run.json"
GENERATIONS = "generations.jsonl"


@dataclass(frozen=True)
class Run:
    """One run behind a cell; of a run that the store does not have, only the first three are known.

    gave: what the cell has of it, such as "accuracy gsm8k". record, generations: links to its files. wall_s: seconds.
    """

    circumstances: str
    gave: str
    key: str
    record: str = ""
    generations: str = ""
    wall_s: float | None = None
    started: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Place:
    """All runs behind the cells of one method and row; ``anchor`` is its place in the page."""

    anchor: str
    name: str
    runs: list[Run] = field(default_factory=list)


def places_of(cells: Iterable[Any], name: str, store: Path, page: Path) -> list[Place]:
    """The places of a table's cells or points, in their order, each of whose ``runs`` names keys (stage/hash).

    ``name`` is the table's; links are relative to the folder ``page``.
    """
    found: dict[str, Place] = {}
    for cell in cells:
        row = getattr(cell, "row", None)
        parts = [cell.method, *([] if row is None else [str(row)])]
        key = anchor(name, *parts)
        place = found.setdefault(key, Place(key, " row ".join(parts)))
        place.runs.extend(_run(_circumstances(cell), gave, run, store, page) for gave, run in cell.runs.items())
    return list(found.values())


def _circumstances(cell: Any) -> str:
    """What tells it from other cells of its method and row."""
    words = [getattr(cell, name, None) for name in ("model", "scheme", "gauge", "route", "implementation")]
    seed = getattr(cell, "seed", None)
    return ", ".join([*filter(None, words), *([] if seed is None else [f"seed {seed}"])])


class _Git(BaseModel):
    commit: str | None
    dirty: bool


class _Record(BaseModel):
    """Of a run.json, what is shown."""

    wall_s: float
    started: str
    git: _Git
    inputs: dict[str, str]


def _run(circumstances: str, gave: str, key: str, store: Path, page: Path) -> Run:
    path = store / key / RECORD
    if not path.is_file():
        return Run(circumstances, gave, key)
    link = _link(path, page)
    try:
        record = _Record.model_validate(unseal(read_bounded(path)))
    except ValueError:  # pydantic's too
        return Run(circumstances, gave, key, link, commit="its run.json is damaged")
    # an accuracy is judged from the completions of another run
    judged = record.inputs.get("generations")
    generations = (store / "evaluate" / judged if judged else path.parent) / GENERATIONS
    return Run(
        circumstances,
        gave,
        key,
        link,
        _link(generations, page) if generations.is_file() else "",
        record.wall_s,
        record.started,
        f"{record.git.commit}"[:12] + "+changes" * record.git.dirty,
    )


def _link(path: Path, page: Path) -> str:
    return quote(Path(os.path.relpath(path, page)).as_posix())
