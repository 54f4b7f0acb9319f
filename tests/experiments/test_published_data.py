"""Training rows of a set that is published in more than one form."""

import json
from pathlib import Path

import pytest

from evals.json_lines import DataFileError
from experiments.stages.data import _read


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
