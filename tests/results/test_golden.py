"""Every committed table, rendered anew from the cells in its own JSON, is the committed one byte for byte."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.derived import publish_claims
from experiments.profiling_points import EXTRAPOLATED_TO
from results.cells import Cell
from results.gauge import write_gauge_table
from results.profiling import ProfilingPoint
from results.profiling_report import write_profiling_table
from results.quantization import quantized_cells_of, write_quantization_table
from results.quantized_cells import QuantizedCell
from results.reduction_report import write_size_reduction
from results.size_reduction import reductions_from_cells, reductions_from_paper
from results.speed import SpeedPoint
from results.speed_report import write_speed_table
from results.table import measured_cells_of, write_table

RESULTS = Path(__file__).resolve().parents[2] / "results"
COMMITTED = sorted(
    path
    for name in ("tiny", "small", "from-paper")
    for path in (RESULTS / name).glob("*.json")
    if path.stem != "claims"
)
Write = Callable[[list[str]], object]


def benchmarks_of(record: dict[str, Any]) -> list[str]:
    return [name.removesuffix("_low") for name in record["rows"][0] if name.endswith("_low") and "change" not in name]


def writer(record: dict[str, Any], beside: Path, out: Path) -> Write:
    """What writes the table of a record into a folder, given the notes that its cells don't say.

    beside: the folder with the other tables of its run.
    """
    number, provenance = record.get("table"), record["provenance"]
    if "cells" in record:
        cells = [Cell.model_validate(cell) for cell in record["cells"]]
        return lambda notes: write_table(cells, number, benchmarks_of(record), provenance, out, notes)
    if "quantized_cells" in record:
        quantized = [QuantizedCell.model_validate(cell) for cell in record["quantized_cells"]]
        if number is None:
            return lambda notes: write_gauge_table(quantized, benchmarks_of(record), provenance, out)
        others = quantized_cells_of(beside).get(3, []) if number != 3 else []
        others = [cell for cell in others if cell.model == quantized[0].model]
        names = benchmarks_of(record)
        return lambda notes: write_quantization_table(quantized, number, names, provenance, out, notes, others=others)
    if number == 14:
        speed = [SpeedPoint.model_validate(point) for point in record["points"]]
        return lambda notes: write_speed_table(speed, provenance, out, notes, measured_cells_of(beside).get(6, ()))
    if number == 5:
        profiling = [ProfilingPoint.model_validate(point) for point in record["points"]]
        return lambda notes: write_profiling_table(profiling, provenance, out, EXTRAPOLATED_TO, notes)
    assert number is not None
    if record["source"] == "paper":
        table = reductions_from_paper(number)
    else:
        table = reductions_from_cells(number, measured_cells_of(beside)[number - 4])
    return lambda notes: write_size_reduction(table, provenance, out)


def files(folder: Path, stem: str) -> Iterator[str]:
    for suffix in (".json", ".md", ".csv"):
        yield (folder / f"{stem}{suffix}").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_committed_table_follows_from_its_own_cells(path: Path, tmp_path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    write = writer(record, path.parent, tmp_path)
    write([])
    computed = json.loads((tmp_path / path.name).read_text(encoding="utf-8")).get("notes", [])
    given = record.get("notes", [])[: len(record.get("notes", [])) - len(computed)]
    write(given)
    for ours, committed in zip(files(tmp_path, path.stem), files(path.parent, path.stem), strict=True):
        assert ours == committed


def test_the_committed_claims_follow_from_the_tables_beside_them(tmp_path: Path) -> None:
    folder = RESULTS / "tiny"
    command = json.loads((folder / "claims.json").read_text())["provenance"]["command"]
    publish_claims(folder, tmp_path, command, Console(quiet=True))
    for ours, committed in zip(files(tmp_path, "claims"), files(folder, "claims"), strict=True):
        assert ours == committed
