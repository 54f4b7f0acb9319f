"""Documents read again from the files that they were written to."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from results.files import parse_json, read_bounded, what_is_wrong
from results.tables.accuracy import AccuracyTable
from results.tables.claims import ClaimList
from results.tables.document import Document, label
from results.tables.gauge import GaugeTable
from results.tables.profiling import ProfilingTable
from results.tables.quantized import QuantizedTable
from results.tables.reductions import MeasuredReductions, PrintedReductions
from results.tables.speed import SpeedTable

KINDS: tuple[type[Document], ...] = (
    *(QuantizedTable, GaugeTable, ProfilingTable, SpeedTable, AccuracyTable),
    *(PrintedReductions, MeasuredReductions, ClaimList),
)
AnyDocument = TypeVar("AnyDocument", bound=Document)


def document_at(path: Path, kinds: Sequence[type[Document]] = KINDS) -> Document:
    """The document whose record is at ``path``, of the first of the kinds that it may be of.

    Raises:
        ValueError: the file is damaged, is of none of the kinds, or is about another table than its name says.
    """
    try:
        record = parse_json(read_bounded(path))
        kind = next((kind for kind in kinds if isinstance(record, dict) and kind.owns(record)), None)
        if kind is None:
            raise ValueError("it has neither cells nor points, nor what is computed from them")
        document = kind.model_validate(record)
        if document.stem != path.stem:
            raise ValueError(f"it says that it is {document.label}")
        return document
    except ValueError as error:
        what = label(path.stem).replace("Table", "measured Table")
        raise ValueError(f"{path.name} is no {what}: {what_is_wrong(error)}") from error


def written(folder: Path, kind: type[AnyDocument]) -> dict[int, AnyDocument]:
    """Those of the paper's tables in a folder that are of one kind, by number; a folder may have none, or not be there.

    Raises:
        ValueError: the file of a table, of this kind or of another, is not what was written.
    """
    found = (document_at(path, (kind, *KINDS)) for path in sorted(folder.glob("table*.json")))
    return {one.table: one for one in found if isinstance(one, kind) and isinstance(one.table, int)}
