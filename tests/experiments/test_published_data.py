"""Training rows of a set that is published in more than one form."""

import json
from pathlib import Path
from typing import Literal

import pytest

from evals.json_lines import DataFileError
from experiments.errors import UserError
from experiments.settings import PublishedData
from experiments.stages.configs import DataConfig
from experiments.stages.data import _published, _read


@pytest.mark.parametrize("fields", [("query", "response"), ("instruction", "input", "output")])
def test_a_bad_row_is_named_whatever_the_form(tmp_path: Path, fields: tuple[str, ...]) -> None:
    rows = [dict.fromkeys(fields, "1") for _ in range(6)]
    file = tmp_path / "metamath" / "train.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert _read("metamath", "train", tmp_path) == rows
    del rows[4][fields[-1]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataFileError, match=rf'line 5: field "{fields[-1]}" is missing'):
        _read("metamath", "train", tmp_path)


def test_a_source_with_too_few_rows_is_refused_and_one_with_fewer_than_wanted_is_said(tmp_path: Path) -> None:
    file = tmp_path / "metamath" / "train.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps({"query": str(n), "response": "1"}) + "\n" for n in range(6)))

    def cut(train: int | Literal["all"], heldout: int) -> tuple[dict[str, int], dict[str, str]]:
        data = PublishedData(
            source="published", seed=1, train={"metamath": train}, calibration=2, heldout=heldout, test={}
        )
        config = DataConfig(domain="mathematics", data=data, benchmarks=(), files={"metamath/train": "0"})
        notes: dict[str, str] = {}
        splits = _published(data, config, tmp_path, notes)
        return {name: len(rows) for name, rows in splits.items()}, notes

    assert cut(3, 1) == ({"train": 3, "calibration": 2, "heldout": 1}, {})
    assert cut("all", 1) == cut(3, 1)
    sizes, notes = cut(4, 1)
    assert sizes["train"] == 3
    assert notes == {"metamath/train": "metamath: trained on 3 rows, of the 4 that the preset wants"}
    with pytest.raises(UserError, match="metamath has 6 training rows here, and the preset sets 6 of them apart"):
        cut(4, 4)
