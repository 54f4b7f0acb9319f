"""The numbers printed in the IMPACT paper (ACL 2026), Tables 1 to 14, as committed CSV files in ``results/paper``."""

from pathlib import Path

import pandas as pd

PAPER_TABLES = Path(__file__).parent / "paper"

# The model behind each printed accuracy table: a measured table must name it when it shows printed numbers.
PRINTED_MODEL = {6: "Llama 2-7B", 7: "Llama 2-13B", 8: "CodeLlama-7B", 9: "CodeLlama-13B"}


def printed_table(number: int) -> pd.DataFrame:
    """Table ``number`` of the paper, one row a printed point, in the printed order.

    Units are in the column names: ``_b`` billions of parameters, ``_gb`` gigabytes, ``_acc`` and ``_pct`` percent,
    ``_tok_s`` tokens a second, ``_h`` hours. In Tables 1, 2, 6-9 and 14 the uncompressed model is ``row`` 0 with method
    ``dense``, and a method's compressed models are rows 1, 2, ... from the largest down.

    Raises:
        ValueError: the paper has no table of that number.
    """
    path = PAPER_TABLES / f"table{number}.csv"
    if not path.is_file():
        raise ValueError(f"the paper has no Table {number}: its tables are 1 to 14")
    return pd.read_csv(path)


def printed_benchmarks(number: int) -> list[str]:
    """The benchmarks of one of Tables 6-9 in the printed order, for instance ``["gsm8k", "math"]``.

    Raises:
        ValueError: the table is not one of accuracy against model size.
    """
    if number not in PRINTED_MODEL:
        raise ValueError(f"Table {number} does not print accuracies by method and row: only Tables 6 to 9 do")
    return [str(name).removesuffix("_acc") for name in printed_table(number).columns if str(name).endswith("_acc")]
