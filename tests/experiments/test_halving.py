"""A batch that memory doesn't hold is halved, and what is measured stays the same."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals.json_lines import read_json_lines, write_json_lines
from evals.tokenisation import tokenise_row
from experiments.errors import UserError
from experiments.jobs.stage import Task
from experiments.miniature.architecture import tiny_llama_config
from experiments.miniature.domains import generate
from experiments.miniature.splits import Sizes
from experiments.miniature.tokenizer import build_tokenizer
from experiments.settings import Calibration, Evaluation, Perplexity
from experiments.stages import measure, profile
from experiments.stages.configs import EvaluateConfig, PerplexityConfig, ProfileConfig
from experiments.stages.halving import halving
from impact.calibration import STATISTICS

ON_A_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ...")
ROWS = 13


@dataclass
class Halved:
    """A measurement that memory holds up to some batch size, and what happened to it."""

    holds: int
    error: Exception = ON_A_GPU
    sizes: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def measure(self, size: int) -> dict[str, Any]:
        self.sizes.append(size)
        if size > self.holds:
            raise self.error
        return {"rows": 3}


@pytest.mark.parametrize("error", [ON_A_GPU, MemoryError()])
def test_it_starts_again_with_half_of_the_batch_and_says_so(error: Exception) -> None:
    halved = Halved(holds=11, error=error)
    assert halving(halved.measure, 48, halved.lines.append) == {"rows": 3, "batch_size": 6}
    assert halved.sizes == [48, 24, 12, 6]
    assert len(halved.lines) == 3
    assert halved.lines[0] == "48 rows at a time don't fit into memory; starting again with 24"


def test_what_fits_is_measured_as_it_was() -> None:
    halved = Halved(holds=48)
    assert halving(halved.measure, 48, halved.lines.append) == {"rows": 3} and halved.lines == []


def test_a_row_that_does_not_fit_alone_is_one_line() -> None:
    halved = Halved(holds=0)
    with pytest.raises(UserError, match="even one row") as raised:
        halving(halved.measure, 3, halved.lines.append)
    assert halved.sizes == [3, 1] and "\n" not in str(raised.value)


def test_another_error_is_no_matter_of_the_batch() -> None:
    halved = Halved(holds=0, error=RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        halving(halved.measure, 3, halved.lines.append)
    assert halved.sizes == [3]


def test_what_a_cpu_says_is_understood() -> None:
    """Of an allocation that no machine can make: a petabyte a row beyond the first."""

    def allocate(size: int) -> dict[str, Any]:
        return {"bytes": torch.empty((size - 1) << 50, dtype=torch.uint8).numel()}

    assert halving(allocate, 4, lambda line: None) == {"bytes": 0, "batch_size": 1}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer("mathematics")


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """In float64, so that the size of a batch shows nowhere."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(tiny_llama_config(len(tokenizer), **shape)).double().eval()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Problems of very different lengths, so that short batches pass before a long one fails."""
    folder = tmp_path_factory.mktemp("data")
    made = generate("mathematics", seed=3, sizes=Sizes(train=0, calibration=ROWS, heldout=2 * ROWS, test=ROWS))
    for name, rows in made.items():
        write_json_lines(folder / f"{name}.jsonl", rows)
    return folder


@pytest.fixture
def run_stage(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[dict[str, Any], list[Path], list[str]]]:
    """(stage, configs, tokens that memory holds at once) -> measurements, outputs, lines that were said."""

    def run(
        stage: Callable[[Task], dict[str, Any]], configs: list[Any], holds: int | None = None
    ) -> tuple[dict[str, Any], list[Path], list[str]]:
        forward = LlamaForCausalLM.forward

        @wraps(forward)
        def limited(input_ids: torch.Tensor, **named: Any) -> Any:
            if holds is not None and input_ids.numel() > holds:
                raise ON_A_GPU
            return forward(model, input_ids=input_ids, **named)

        lines: list[str] = []
        outputs = [tmp_path / f"{holds}-{i}" for i in range(len(configs))]
        for output in outputs:
            output.mkdir()
        with monkeypatch.context() as patch:
            for module in (measure, profile):
                patch.setattr(module, "load", lambda *given: (model, tokenizer))
            patch.setattr(model, "forward", limited)
            task = Task(configs, {"model": data, "data": data}, {}, outputs, 1, max, dict, lines.append, tmp_path, 0)
            return stage(task), outputs, lines

    return run


def longest(tokenizer: PreTrainedTokenizerFast, data: Path, name: str) -> int:
    """Tokens of the longest row, prompt template and all."""
    rows = read_json_lines(data / f"{name}.jsonl")
    return max(len(tokenise_row(tokenizer, row, 512).input_ids) for row in rows)


def test_statistics_are_those_of_the_whole_set(
    run_stage: Callable[..., Any], tokenizer: PreTrainedTokenizerFast, data: Path
) -> None:
    """Memory fails in a later batch, after statistics of the first ones were added up."""
    calibration = Calibration(batch_size=6, max_length=512, precision="fp32")
    configs = [ProfileConfig(statistic=name, calibration=calibration, attention="eager") for name in STATISTICS]
    whole, expected, silent = run_stage(profile.run, configs)
    measured, outputs, lines = run_stage(profile.run, configs, holds=4 * longest(tokenizer, data, "calibration"))
    assert silent == [] and lines == ["6 rows at a time don't fit into memory; starting again with 3"]
    assert measured == {**whole, "batch_size": 3}
    for output, reference in zip(outputs, expected, strict=True):
        tensors, references = (load_file(folder / profile.TENSORS) for folder in (output, reference))
        assert tensors.keys() == references.keys() and tensors
        for name, tensor in tensors.items():
            assert tensor.dtype == torch.float64
            torch.testing.assert_close(tensor, references[name], rtol=1e-10, atol=1e-12)


def test_perplexities_are_those_of_the_whole_set(
    run_stage: Callable[..., Any], tokenizer: PreTrainedTokenizerFast, data: Path
) -> None:
    settings = Perplexity(rows=ROWS, batch_size=8, max_length=512)
    configs = [PerplexityConfig(perplexity=settings, precision="fp32", attention="eager")]
    whole, _, _ = run_stage(measure.perplexity, configs)
    measured, _, lines = run_stage(measure.perplexity, configs, holds=2 * longest(tokenizer, data, "heldout"))
    assert len(lines) == 2 and measured["batch_size"] == 2 and "batch_size" not in whole
    assert len(whole["perplexity"]) == 2
    assert measured["perplexity"] == pytest.approx(whole["perplexity"], rel=1e-6)


def test_completions_are_the_same_one_for_each_problem(run_stage: Callable[..., Any], model: LlamaForCausalLM) -> None:
    model.float()  # what masks padding on the left in float64 is more than the float32 softmax takes
    settings = Evaluation(batch_size=8, max_gen_toks=24)
    configs = [EvaluateConfig(benchmark="gsm8k", evaluation=settings, precision="fp32", attention="eager")]
    whole, expected, _ = run_stage(measure.evaluate, configs)
    measured, outputs, lines = run_stage(measure.evaluate, configs, holds=250)
    assert lines and measured == {"completions": ROWS, "batch_size": measured["batch_size"]}
    assert whole == {"completions": ROWS}
    kept, reference = ((folder / measure.GENERATIONS).read_text() for (folder,) in (outputs, expected))
    assert kept == reference and len(reference.splitlines()) == ROWS


def test_a_model_that_memory_cannot_run_at_all_is_one_line(run_stage: Callable[..., Any]) -> None:
    settings = Evaluation(batch_size=8, max_gen_toks=24)
    configs = [EvaluateConfig(benchmark="gsm8k", evaluation=settings, precision="fp32", attention="eager")]
    with pytest.raises(UserError, match="even one row"):
        run_stage(measure.evaluate, configs, holds=3)
