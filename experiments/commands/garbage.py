"""`gc`: removing outputs that no published table rests on."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.errors import UserError
from experiments.jobs.store import DAMAGED, PROVENANCE, Store, remove
from experiments.running.schedule import RUNS, SCHEDULE
from results.files import parse_json, read_bounded, unseal


def collect(store: Store, results: Iterable[Path], dry_run: bool, console: Console) -> None:
    """Removes every output that no JSON file under `results` names among its runs, directly or through inputs.

    So goes what trainings have kept to go on from, unless the last run was to finish them.

    Raises UserError if a JSON file or an output that it rests on is damaged: what that needs is not known then.
    """
    outputs = {path.parent.name: path.parent for path in store.records()}
    reached: set[str] = set()
    published = [_read(path, parse_json) for folder in results for path in folder.glob("**/*.json")]
    waiting = [str(key).rpartition("/")[2] for key in _runs(published)]
    while waiting:
        name = waiting.pop()
        if name not in reached and name in outputs:
            reached.add(name)
            waiting += _read(outputs[name] / PROVENANCE, unseal)["inputs"].values()
    garbage = [path for name, path in outputs.items() if name not in reached]
    garbage += [path for path in (store.root / DAMAGED).glob("*")]
    awaited = _awaited(store) - outputs.keys()
    garbage += [path for path in (store.root / "partial").glob("*-*") if path.name.split("-")[1] not in awaited]
    size = sum(file.stat().st_size for path in garbage for file in path.rglob("*") if file.is_file())
    verb = "would remove" if dry_run else "removed"
    if not dry_run:
        for path in garbage:
            (store.root / "stamps" / path.parent.name / path.name).unlink(missing_ok=True)
            remove(path)
    console.print(f"{verb} {len(garbage)} outputs, {size / 1e6:,.1f} MB; {len(reached)} are kept for published tables")


def _runs(published: Any) -> Iterator[str]:
    """The outputs, as stage/id, that records of any kind were measured from: a cell, a point, a figure, or lists."""
    match published:
        case dict():
            runs = published.get("runs")
            yield from runs.values() if isinstance(runs, dict) else ()
            yield from _runs([*published.values()])
        case list():
            for each in published:
                yield from _runs(each)


def _awaited(store: Store) -> set[str]:
    """Jobs that the last run set out to make: a training among them may go on from what it has kept."""
    schedules = (*store.root.glob(SCHEDULE), *store.root.glob(f"{RUNS}/*/{SCHEDULE}"))
    return {key.split("/")[1] for path in schedules for key in _read(path, parse_json)["missing"]}


def _read(path: Path, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(read_bounded(path))
    except ValueError as error:
        raise UserError(f"{path} is damaged: nothing is removed before its table is made again") from error
