"""The typed record of one measured quantized model: one method at one row of Tables 1 to 3, with one seed."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, model_validator

from results.measured.cells import DENSE, BenchmarkResult, grouped
from results.measured.record import Record

QUANTIZED = "quantized"
QLORA = "qlora"


class QuantizedCell(Record):
    """One measured point of Table 1 or 2 (8 bits) or of Table 3 (4 bits).

    ``model`` is one that the table has ("7b" or "13b"), for whose printed numbers the measured model stands. ``dense``
    is the fine-tuned model in 8 bits, row 0; ``quantized`` is the same in 4 bits, ``qlora`` a 4-bit model with a
    trained adapter. ``keep`` is the value that ``rank_rule`` was given, in percent, None for models without one.
    ``parameters`` count the adapter's too. ``nominal_bytes`` is the paper's counting: one byte or half a byte for every
    parameter, for FLAP the kept share of the dense model's; ``file_bytes`` are those of the stored weights,
    ``memory_bytes`` those of the loaded ones. ``unquantized`` is what the same model solved before quantization,
    ``unquantized_perplexity`` how it did then; an adapter trained on quantized weights has no such model. ``runs``
    names for every stage the run that the numbers come from.
    """

    model: str = Field(min_length=1)
    method: str
    row: int = Field(ge=0)
    keep: float | None
    rank_rule: str
    eta: float | None
    bits: int
    scheme: str
    gauge: str
    seed: int
    parameters: int = Field(gt=0)
    dense_parameters: int = Field(gt=0)
    nominal_bytes: int = Field(gt=0)
    file_bytes: int = Field(gt=0)
    memory_bytes: int = Field(gt=0)
    perplexity: dict[str, Annotated[float, Field(gt=0)]]
    unquantized_perplexity: dict[str, Annotated[float, Field(gt=0)]]
    benchmarks: dict[str, BenchmarkResult]
    unquantized: dict[str, BenchmarkResult]
    runs: dict[str, str]
    note: str = ""

    @model_validator(mode="after")
    def _fits_a_table(self) -> "QuantizedCell":
        if self.bits not in (4, 8):
            raise ValueError(f"Tables 1 to 3 have models of 8 and of 4 bits, not of {self.bits}")
        if (self.row == 0) != (self.method == DENSE):
            raise ValueError(f"row 0 is for {DENSE} alone, got method {self.method!r} at row {self.row}")
        for name in self.benchmarks.keys() & self.unquantized.keys():
            if self.benchmarks[name].n != self.unquantized[name].n:
                raise ValueError(
                    f"{self.benchmarks[name].n} problems of {name} were scored after quantization and "
                    f"{self.unquantized[name].n} before it: models are compared on the same problems only"
                )
        return self


def grouped_by_model(cells: Iterable[QuantizedCell]) -> dict[tuple[str, str, int], list[QuantizedCell]]:
    """Cells by (model, method, row), each group in the order of its seeds.

    Raises:
        ValueError: a seed occurs twice at one point, cells of one point disagree in what was declared (``bits``,
            ``scheme``, ``gauge``, ``keep``, ``rank_rule``, ``eta``), the dense model or the benchmarks, or any two in a
            benchmark's number of problems.
    """
    declared = ("bits", "scheme", "gauge", "keep", "rank_rule", "eta", "dense_parameters")
    return grouped(cells, lambda cell: (cell.model, cell.method, cell.row), declared)
