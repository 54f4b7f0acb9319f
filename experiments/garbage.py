"""`gc`: removing outputs that no published table rests on."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from experiments.store import PROVENANCE, Store


def collect(store: Store, results: Iterable[Path], dry_run: bool, console: Console) -> None:
    """Removes every output that no table in JSON under `results` was measured from, directly or through inputs."""
    outputs = {path.parent.name: path.parent for path in store.root.glob(f"*/*/{PROVENANCE}")}
    reached: set[str] = set()
    waiting = [
        key.split("/")[1]
        for folder in results
        for path in (*folder.glob("**/table*.json"), *folder.glob("**/gauge.json"))
        for measured in [json.loads(path.read_text())]
        for kind in ("cells", "quantized_cells", "points")
        for place in measured.get(kind, ())
        for key in place["runs"].values()
    ]
    while waiting:
        name = waiting.pop()
        if name not in reached and name in outputs:
            reached.add(name)
            waiting += json.loads((outputs[name] / PROVENANCE).read_text())["inputs"].values()
    garbage = [path for name, path in outputs.items() if name not in reached]
    garbage += [path for path in (store.root / "damaged").glob("*")]
    size = sum(file.stat().st_size for path in garbage for file in path.rglob("*") if file.is_file())
    verb = "would remove" if dry_run else "removed"
    if not dry_run:
        for path in garbage:
            (store.root / "stamps" / path.parent.name / path.name).unlink(missing_ok=True)
            shutil.rmtree(path)
    console.print(f"{verb} {len(garbage)} outputs, {size / 1e6:,.1f} MB; {len(reached)} are kept for published tables")
