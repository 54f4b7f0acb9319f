"""Deliberate mistakes in the core formulas: each must fail a property test.

The packages and the property tests are copied, a mistake is written into the copy, and the tests run there. All copies
run in forks of one process, which has imported torch and transformers but nothing of the project.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS_OF = {
    "impact/calibration": ["tests/impact/test_statistics.py"],
    "impact": ["tests/impact/test_reconstruction.py", "tests/impact/test_algorithm1.py"],
    "baselines/flap": ["tests/baselines/test_flap.py"],
    "baselines": ["tests/baselines/test_weighted_svds.py"],
}
ALL_TESTS = [file for files in TESTS_OF.values() for file in files]
COPY_LOST = 99
PARALLEL = 2

RUNNER = f"""
import json, os, sys
import hypothesis, pytest, safetensors.torch, torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, Qwen2ForCausalLM

def run(directory, tests):
    os.chdir(directory)
    sys.path.insert(0, directory)
    log = os.open("log", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1), os.dup2(log, 2)
    options = "-x -q --tb=short -p no:cacheprovider --import-mode=importlib --rootdir=."
    code = pytest.main([*options.split(), "-k", "llama or eigenproblem", *tests])
    import impact, baselines
    copies = all(module.__file__.startswith(directory) for module in (impact, baselines))
    os._exit(int(code) if copies else {COPY_LOST})

waiting, running, exits = json.loads(sys.argv[1]), {{}}, {{}}
while waiting or running:
    while waiting and len(running) < {PARALLEL}:
        directory, tests = waiting.pop(0)
        if child := os.fork():
            running[child] = directory
        else:
            run(directory, tests)
    child, status = os.wait()
    exits[running.pop(child)] = os.waitstatus_to_exitcode(status)
print(json.dumps(exits))
"""


@dataclass(frozen=True)
class Mutant:
    """One mistake: in `file`, `correct` is replaced by `wrong`."""

    name: str
    file: str
    correct: str
    wrong: str

    @property
    def tests(self) -> list[str]:
        """The property tests of the file: the first of TESTS_OF that it lies under."""
        return next(tests for prefix, tests in TESTS_OF.items() if self.file.startswith(prefix))


MUTANTS = [
    Mutant("W2 multiplies by a", "impact/reconstruction.py", '"up": U / a[:, None]', '"up": U * a[:, None]'),
    Mutant("W1 divides by a", "impact/reconstruction.py", "weighted = U * a[:, None]", "weighted = U / a[:, None]"),
    Mutant("bias without its mean", "impact/reconstruction.py", '"bias": mu,', '"bias": torch.zeros_like(mu),'),
    Mutant("dense bias kept", "impact/reconstruction.py", '"bias": mu,', '"bias": b,'),
    Mutant("bias without its projection", "impact/factorisation.py", 'bias + up @ tensors["offset"][:kept]', "bias"),
    Mutant("a on one side only", "impact/reconstruction.py", "C = a[:, None] * covariance * a", "C = covariance * a"),
    Mutant("a missing on the input side", "impact/reconstruction.py", "A, Sigma = a[:, None] * W,", "A, Sigma = W,"),
    Mutant(
        "Cholesky of any weights", "impact/reconstruction.py", "failed or diagonal.min()", "False and diagonal.min()"
    ),
    Mutant("a triangle too short", "impact/reconstruction.py", "K[block, : block.stop] = R", "K[block, block] = R"),
    Mutant("eigenvectors ascend", "impact/reconstruction.py", "vectors.flip(1)", "vectors"),
    Mutant(
        "no centring",
        "impact/calibration.py",
        "covariance -= torch.outer(offset, offset)",
        "covariance += torch.outer(self.shift + offset, self.shift + offset) - torch.outer(offset, offset)",
    ),
    Mutant("shift not taken back", "impact/calibration.py", "covariance -= torch.outer(offset, offset)", "pass"),
    Mutant("padding counted", "impact/calibration.py", "else values[mask]", "else values.flatten(0, 1)"),
    Mutant(
        "eta outside the root",
        "impact/importance.py",
        "((1 - eta) * relative + eta).sqrt()",
        "((1 - eta) * relative).sqrt() + eta",
    ),
    Mutant("no root of the gradient", "impact/importance.py", "* relative + eta).sqrt()", "* relative + eta)"),
    Mutant(
        "k rule on eigenvalues", "impact/method.py", "return Components(Lambda.sqrt(),", "return Components(Lambda,"
    ),
    Mutant("k rule one short", "impact/ranks.py", "torch.nonzero(reached)[0]) + 1", "torch.nonzero(reached)[0])"),
    Mutant("FWSVD multiplies by D", "baselines/fwsvd.py", "U * S / D", "U * S * D"),
    Mutant("FWSVD without the root", "baselines/fwsvd.py", "FISHER_FLOOR).sqrt()", "FISHER_FLOOR)"),
    Mutant("ASVD multiplies by S", "baselines/asvd.py", "* Vh / scale", "* Vh * scale"),
    Mutant("variance about the first batch's mean", "impact/calibration.py", "- offset.square()", ""),
    Mutant("FLAP without its mean", "baselines/flap.py", "+ W[:, removed].double() @ mean[removed]", ""),
    Mutant("FLAP squares no head's fluctuation", "baselines/flap.py", "fluctuation = fluctuation.square()", "pass"),
    Mutant("FLAP weighs no channel", "baselines/flap.py", "variance * W.square().sum(dim=0)", "variance"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Name of a mutant, or "" for the untouched copy -> exit code of the property tests and their output."""
    copies = {"": tmp_path_factory.mktemp("untouched")}
    for mutant in MUTANTS:
        copies[mutant.name] = tmp_path_factory.mktemp("mutant")
    for copy in copies.values():
        for package in ("impact", "baselines"):
            shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("tests/conftest.py", *ALL_TESTS):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    for mutant in MUTANTS:
        file = copies[mutant.name] / mutant.file
        source = file.read_text()
        assert source.count(mutant.correct) == 1, f"{mutant.name}: its formula is not in {mutant.file}"
        file.write_text(source.replace(mutant.correct, mutant.wrong))
    work = [(str(copies[""]), ALL_TESTS), *((str(copies[mutant.name]), mutant.tests) for mutant in MUTANTS)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, json.dumps(work)],
        capture_output=True,
        text=True,
        check=False,
        cwd=copies[""],
        env=environment | {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert done.returncode == 0, done.stderr
    exits = json.loads(done.stdout)
    return {name: (exits[str(copy)], (copy / "log").read_text()) for name, copy in copies.items()}


def test_the_untouched_copy_passes(runs: dict[str, tuple[int, str]]) -> None:
    code, log = runs[""]
    assert code == pytest.ExitCode.OK, log


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mistake_is_caught(runs: dict[str, tuple[int, str]], mutant: Mutant) -> None:
    code, log = runs[mutant.name]
    assert code == pytest.ExitCode.TESTS_FAILED, log
