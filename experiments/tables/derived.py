"""What is computed without measuring anything: Tables 10 to 13 from printed accuracies, and the list of claims."""

from pathlib import Path

from experiments.tables.target import Publication
from results.statements.reductions import reductions_from_paper
from results.statements.run import Run
from results.statements.verdicts import claims
from results.tables.accuracy import AccuracyTable
from results.tables.claims import claims_document
from results.tables.profiling import ProfilingTable
from results.tables.quantized import QuantizedTable
from results.tables.reductions import reduction_document
from results.tables.speed import SpeedTable
from results.tables.written import written


def printed_reductions(name: str, command: str) -> Publication:
    """Table 10, 11, 12 or 13 recomputed from the accuracies that the paper prints."""
    document = reduction_document(reductions_from_paper(int(name.removeprefix("table"))), {"command": command})
    heading = f"{document.label}, recomputed from the numbers that the paper prints"
    return Publication(name, heading, document, remarks=[f"- {note}" for note in document.notes])


def measured_claims(folder: Path, command: str) -> Publication:
    """The paper's claims, judged on its printed tables and on those measured ones that lie in a folder.

    Raises ValueError for a table that is damaged.
    """
    tables, quantized = written(folder, AccuracyTable), written(folder, QuantizedTable)
    speed, profiling = written(folder, SpeedTable), written(folder, ProfilingTable)
    run = Run(
        cells={number: table.cells for number, table in tables.items()},
        quantized=[cell for table in quantized.values() for cell in table.measured],
        speed=[point for table in speed.values() for point in table.measured],
        profiling=[point for table in profiling.values() for point in table.measured],
    )
    names = ", ".join(f"Table {number}" for number in sorted({*tables, *quantized, *speed, *profiling})) or "none"
    document = claims_document(claims(run), {"command": command, "measured tables": f"{names} of {folder.name}"})
    return Publication("claims", "", document, remarks=[f"measured tables: {names} (in {folder})"])
