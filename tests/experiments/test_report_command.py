"""`report`: from a folder of written tables to its page."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.commands.main import main

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_recomputed_tables_needs_no_run_and_no_torch(tmp_path: Path) -> None:
    places = ["--results", str(tmp_path), "--store", str(tmp_path / "store")]
    assert main(["table10", "table12", "--from", "paper", *places]) == 0
    program = (
        "import sys; from experiments.commands.main import main; "
        f"code = main(['report', *{places!r}]); print('torch' in sys.modules); sys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "report.html: Table 10, Table 12; " in result.stdout and result.stdout.endswith("False\n")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<section") == 3
    for target in ("table6", "table11", "table14", "figure8", "gauge", "claims"):
        assert f"<code>./reproduce.sh {target} --preset tiny</code>" in page
    assert not (tmp_path / "store").exists()


def test_without_a_table_there_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--preset", "smoke", "--results", str(tmp_path / "results")]) == 2
    said = capsys.readouterr().err
    assert "holds no table yet; ./reproduce.sh table6 --preset smoke makes one" in said and said.count("\n") == 1
