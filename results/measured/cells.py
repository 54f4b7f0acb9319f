"""The typed record of one measured cell: one method at one row, with one seed."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Protocol, TypeVar

from pydantic import Field, field_serializer, field_validator, model_validator

from results.measured.record import Record

DENSE = "dense"
DENSE_SFT = "dense_sft"


class BenchmarkResult(Record):
    """Pass@1 of one model on one benchmark: whether each of the ``n`` problems was solved, in the benchmark's order.

    In JSON the marks are one string of 0 and 1, so that a committed table stays readable; lists are read as well.
    """

    n: int = Field(gt=0)
    correct: list[bool]

    @field_validator("correct", mode="before")
    @classmethod
    def _from_digits(cls, value: object) -> object:
        return [digit == "1" for digit in value] if isinstance(value, str) and set(value) <= {"0", "1"} else value

    @field_serializer("correct", when_used="json")
    def _to_digits(self, value: list[bool]) -> str:
        return "".join("01"[mark] for mark in value)

    @model_validator(mode="after")
    def _one_mark_a_problem(self) -> "BenchmarkResult":
        if len(self.correct) != self.n:
            raise ValueError(f"n is {self.n} but {len(self.correct)} problems are marked")
        return self


class Cell(Record):
    """One measured point of a table.

    ``dense`` is the fine-tuned model before any second SFT; ``dense_sft`` is the control, the same model given the
    second SFT that every compressed model gets (the paper prints no number for it). Both are row 0. ``keep_pct`` is the
    value that ``rank_rule`` was given, in percent; sizes count parameters; perplexities are per benchmark or text name;
    ``runs`` names for every stage the run that the numbers come from.
    """

    method: str
    row: int = Field(ge=0)
    keep_pct: float
    rank_rule: str
    eta: float | None
    seed: int
    parameters: int = Field(gt=0)
    dense_parameters: int = Field(gt=0)
    ppl_before_sft: dict[str, Annotated[float, Field(gt=0)]]
    ppl_after_sft: dict[str, Annotated[float, Field(gt=0)]]
    benchmarks: dict[str, BenchmarkResult]
    runs: dict[str, str]
    note: str = ""

    @model_validator(mode="after")
    def _dense_is_row_zero(self) -> "Cell":
        if (self.row == 0) != (self.method in (DENSE, DENSE_SFT)):
            raise ValueError(
                f"row 0 is for {DENSE} and {DENSE_SFT} alone, got method {self.method!r} at row {self.row}"
            )
        return self


class _Scored(Protocol):
    """What `grouped` needs of a cell."""

    @property
    def seed(self) -> int: ...

    @property
    def benchmarks(self) -> dict[str, BenchmarkResult]: ...


AnyCell = TypeVar("AnyCell", bound=_Scored)
Point = TypeVar("Point", bound=tuple[object, ...])


def grouped_by_point(cells: Iterable[Cell]) -> dict[tuple[str, int], list[Cell]]:
    """Cells by (method, row), each group in the order of its seeds.

    A row that was measured with several eta is several points, ("impact eta 0.5", 3) and so on, which nothing that is
    said of the method's row is about.

    Raises:
        ValueError: a seed occurs twice at one point, cells of one point disagree in what was declared (``keep_pct``,
            ``rank_rule``), the dense model or the benchmarks, or any two in a benchmark's number of problems.
    """
    cells = list(cells)
    etas: dict[tuple[str, int], set[float | None]] = {}
    for cell in cells:
        etas.setdefault((cell.method, cell.row), set()).add(cell.eta)

    def point_of(cell: Cell) -> tuple[str, int]:
        several = len(etas[cell.method, cell.row]) > 1
        return cell.method + f" eta {cell.eta}" * several, cell.row

    return grouped(cells, point_of, ("keep_pct", "rank_rule", "dense_parameters"))


def grouped(
    cells: Iterable[AnyCell], point_of: Callable[[AnyCell], Point], declared: Sequence[str]
) -> dict[Point, list[AnyCell]]:
    """Cells of any kind by their point, whose last entry is the row, each group in the order of its seeds.

    Raises:
        ValueError: a seed occurs twice at one point, cells of one point disagree in a field of ``declared`` or in the
            benchmarks, or any two cells in a benchmark's number of problems.
    """
    points: dict[Point, list[AnyCell]] = {}
    problems: dict[str, int] = {}
    for cell in sorted(cells, key=lambda c: c.seed):
        point = point_of(cell)
        where = f"{' '.join(map(str, point[:-1]))} row {point[-1]}"
        group = points.setdefault(point, [])
        if any(other.seed == cell.seed for other in group):
            raise ValueError(f"{where} has two cells with seed {cell.seed}")
        for field in declared:
            if group and getattr(group[0], field) != getattr(cell, field):
                raise ValueError(f"the cells of {where} disagree in {field}")
        if group and group[0].benchmarks.keys() != cell.benchmarks.keys():
            raise ValueError(f"the cells of {where} disagree in which benchmarks were measured")
        for name, result in cell.benchmarks.items():
            if problems.setdefault(name, result.n) != result.n:
                raise ValueError(
                    f"{where} was scored on {result.n} problems of {name} and another cell on {problems[name]}: "
                    "models are compared on the same problems only"
                )
        group.append(cell)
    return points
