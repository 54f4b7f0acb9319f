"""What the paper's tables are called: whose model they have, which figure shows them, what is derived from them."""

from collections.abc import Mapping
from typing import NamedTuple


class PaperTable(NamedTuple):
    """What a table is about: the paper's model, the figure that shows it, the table of size reductions it gives."""

    model: str
    figure: int | None = None
    derived: int | None = None


# What the paper's tables are called. Table 3 has the 4-bit models of Tables 1 and 2, and both their figures show it.
PAPER: Mapping[int, PaperTable] = {
    1: PaperTable("Llama 2-7B", figure=6),
    2: PaperTable("Llama 2-13B", figure=7),
    5: PaperTable("Llama 2-13B"),
    6: PaperTable("Llama 2-7B", figure=2, derived=10),
    7: PaperTable("Llama 2-13B", figure=3, derived=11),
    8: PaperTable("CodeLlama-7B", figure=4, derived=12),
    9: PaperTable("CodeLlama-13B", figure=5, derived=13),
    14: PaperTable("Llama 2-7B", figure=8),
}

METHOD = "impact"
# the methods among which footnote 2 looks for the best baseline
BASELINES = ("svd", "fwsvd", "asvd", "afm")
