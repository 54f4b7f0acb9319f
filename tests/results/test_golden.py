"""Every committed table, rendered anew from the cells in its own JSON, is the committed one byte for byte."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.tables.derived import measured_claims
from experiments.tables.profiling_points import EXTRAPOLATED_TO
from results.statements.reductions import reductions_from_cells, reductions_from_paper
from results.tables.accuracy import AccuracyTable, accuracy_document
from results.tables.document import Document
from results.tables.gauge import GaugeTable, gauge_document
from results.tables.profiling import ProfilingTable, profiling_document
from results.tables.quantized import QuantizedTable, quantized_document
from results.tables.reductions import reduction_document
from results.tables.speed import SpeedTable, speed_document
from results.tables.written import document_at, written

RESULTS = Path(__file__).resolve().parents[2] / "results"
COMMITTED = sorted(
    path
    for name in ("tiny", "small", "from-paper")
    for path in (RESULTS / name).glob("*.json")
    if path.stem != "claims"
)
Write = Callable[[list[str]], Document]


def writer(read: Document, beside: Path) -> Write:
    """What makes the document again from the cells of one that was read, given the notes that its cells don't say.

    beside: the folder with the other tables of its run.
    """
    provenance, benchmarks = read.provenance, read.benchmarks()
    if isinstance(read, AccuracyTable):
        return lambda notes: accuracy_document(read.cells, read.table, benchmarks, provenance, notes)
    if isinstance(read, GaugeTable):
        return lambda notes: gauge_document(read.quantized_cells, benchmarks, provenance)
    if isinstance(read, QuantizedTable):
        number, cells, others = read.table, read.quantized_cells, []
        if number != 3 and 3 in (tables := written(beside, QuantizedTable)):
            others = [cell for cell in tables[3].quantized_cells if cell.model == cells[0].model]
        return lambda notes: quantized_document(cells, number, benchmarks, provenance, notes, others=others)
    if isinstance(read, SpeedTable):
        tables = written(beside, AccuracyTable)
        return lambda notes: speed_document(read.points, provenance, notes, tables[6].cells if 6 in tables else ())
    if isinstance(read, ProfilingTable):
        return lambda notes: profiling_document(read.points, provenance, EXTRAPOLATED_TO, notes)
    number = read.table
    assert isinstance(number, int)
    if read.source == "paper":
        table = reductions_from_paper(number)
    else:
        table = reductions_from_cells(number, written(beside, AccuracyTable)[number - 4].cells)
    return lambda notes: reduction_document(table, provenance)


def files(folder: Path, stem: str) -> Iterator[str]:
    for suffix in (".json", ".md", ".csv"):
        yield (folder / f"{stem}{suffix}").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_committed_table_follows_from_its_own_cells(path: Path, tmp_path: Path) -> None:
    read = document_at(path)
    make = writer(read, path.parent)
    computed = make([]).notes
    make(read.notes[: len(read.notes) - len(computed)]).write(tmp_path)
    for ours, committed in zip(files(tmp_path, path.stem), files(path.parent, path.stem), strict=True):
        assert ours == committed


@pytest.mark.parametrize(
    "path", [*COMMITTED, RESULTS / "tiny" / "claims.json"], ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_a_document_made_from_its_own_json_is_the_committed_one(path: Path, tmp_path: Path) -> None:
    document_at(path).write(tmp_path)
    for ours, committed in zip(files(tmp_path, path.stem), files(path.parent, path.stem), strict=True):
        assert ours == committed


def test_the_committed_claims_follow_from_the_tables_beside_them(tmp_path: Path) -> None:
    folder = RESULTS / "tiny"
    command = json.loads((folder / "claims.json").read_text())["provenance"]["command"]
    document = measured_claims(folder, command).document
    assert document is not None
    document.write(tmp_path)
    for ours, committed in zip(files(tmp_path, "claims"), files(folder, "claims"), strict=True):
        assert ours == committed
