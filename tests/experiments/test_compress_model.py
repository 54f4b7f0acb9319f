"""compress: a model from a directory, a compressed one in another, and one line for each mistake."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors import SafetensorError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

from evals.prompts import instruction_prompt, training_prompt
from evals.training_rows import read_training_rows
from experiments.commands.compress import Compressed, compress_model
from experiments.errors import UserError
from experiments.stages.models import batches
from impact.calibration import calibrate
from impact.compression import compress, parameter_count, prepare_units, untie_embeddings
from impact.method import Impact
from impact.modeling_impact import FactorisedLinear
from impact.rank_rule import RankRule

VOCABULARY = 61
ROWS = [{"query": f"{i} {i + 3} {2 * i}", "response": " ".join(str(i + j) for j in range(1, 9))} for i in range(1, 13)]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied Qwen2 with its tokenizer, in bfloat16."""
    return write_dense(tmp_path_factory.mktemp("dense") / "model", Qwen2ForCausalLM, tied=True)


def write_dense(directory: Path, causal_lm: Any, tied: bool, **extra: Any) -> Path:
    """A model of random weights with its tokenizer, in bfloat16."""
    vocabulary = {"[UNK]": 0} | {str(i): i for i in range(1, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="60", pad_token="59"
    ).save_pretrained(directory)
    torch.manual_seed(0)
    model = causal_lm(
        causal_lm.config_class(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
            **extra,
        )
    )
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.3)
    model.bfloat16().save_pretrained(directory)
    return directory


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def run(dense: Path, calibration: Path, tmp_path: Path) -> Callable[..., Compressed]:
    def call(**changed: Any) -> Compressed:
        arguments: dict[str, Any] = {
            "model": str(dense),
            "out": tmp_path / "out",
            "calibration": calibration,
            "batch_size": 4,
            "console": Console(file=io.StringIO()),
        }
        return compress_model(**(arguments | changed))

    return call


def refusal(call: Callable[[], Any], tmp_path: Path) -> str:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError) as refused:
        call()
    assert sorted(tmp_path.iterdir()) == before
    message = str(refused.value)
    assert message
    assert "\n" not in message
    return message


def test_weights_that_are_no_numbers_are_one_line(
    run: Callable[..., Compressed], dense: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    broken = tmp_path_factory.mktemp("broken") / "model"
    shutil.copytree(dense, broken)
    model = AutoModelForCausalLM.from_pretrained(broken)
    model.model.layers[1].mlp.up_proj.weight.data[3, 3] = torch.nan
    model.save_pretrained(broken)
    assert refusal(lambda: run(model=str(broken), keep=60), tmp_path)


def test_it_is_the_method_on_the_model(run: Callable[..., Compressed], dense: Path, tmp_path: Path) -> None:
    done = run(keep=60, eta=0.5)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.dtype == torch.bfloat16

    model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32).eval()
    tied = parameter_count(model)
    untie_embeddings(model)
    untied = parameter_count(model)
    made = batches(AutoTokenizer.from_pretrained(dense), ROWS, 4, 512)
    method = Impact(eta=0.5)
    statistics: dict[str, Any] = {}
    for modules in calibrate(model, made, method.statistics()).values():
        for name, tensors in modules.items():
            statistics.setdefault(name, {}).update(tensors)
    components = dict(prepare_units(method, model, statistics))
    kept = method.allocate(RankRule("nuclear_norm", 60), components, None)
    compress(model, method, components, kept, statistics)
    assert done == Compressed(tied, untied, parameter_count(model), 60, kept)
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name].bfloat16())
    assert loaded.config.impact_ranks == kept
    assert loaded.config.impact_recipe["settings"] == {"eta": 0.5}
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("5 9").input_ids == [5, 9]


@pytest.mark.parametrize("method", ("impact", "afm", "svd", "fwsvd", "asvd"))
def test_every_factorisation_reaches_a_target(method: str, run: Callable[..., Compressed], tmp_path: Path) -> None:
    done = run(method=method, target_size=5e-6)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert parameter_count(loaded) == done.parameters <= 5000
    # one step of the rule more would be too large: ranks are whole numbers and layers tie
    assert done.parameters > 4300


def test_a_pruned_model_meets_a_target_too(run: Callable[..., Compressed], tmp_path: Path) -> None:
    done = run(method="flap", keep=50)
    assert parameter_count(AutoModelForCausalLM.from_pretrained(tmp_path / "out")) == done.parameters
    assert done.parameters < done.tied_parameters == done.dense_parameters  # it leaves a tied lm_head alone
    target = (done.parameters + done.tied_parameters) // 2
    larger = run(method="flap", target_size=target / 1e9, out=tmp_path / "larger")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "larger")
    assert done.parameters <= parameter_count(loaded) == larger.parameters <= target
    assert loaded.config.impact_pruned


def test_a_target_is_met_as_closely_as_the_rule_allows(run: Callable[..., Compressed], tmp_path: Path) -> None:
    done = run(target_size=4800 / 1e9)
    assert done.parameters <= 4800
    again = run(keep=done.value, out=tmp_path / "same")
    assert again.kept == done.kept
    larger = run(keep=min(100, done.value * (1 + 1e-9) + 1e-9), out=tmp_path / "larger")
    assert larger.parameters > 4800


def test_dense_layers_stay_where_factors_are_larger(run: Callable[..., Compressed], tmp_path: Path) -> None:
    everywhere = run(keep=95)
    mixed = run(keep=95, dense_if_larger=True, out=tmp_path / "mixed")
    assert mixed.parameters < everywhere.parameters
    assert None in mixed.kept.values()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "mixed")
    for name, rank in mixed.kept.items():
        assert isinstance(loaded.get_submodule(name), FactorisedLinear) == (rank is not None)
        assert rank is None or rank == everywhere.kept[name]


WINDOW = {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]}
OTHERS: dict[str, tuple[Any, bool, dict[str, Any]]] = {
    "qwen3": (Qwen3ForCausalLM, True, {"head_dim": 8}),
    "gemma3_text": (Gemma3ForCausalLM, True, {"head_dim": 8, **WINDOW}),
    "phi3": (Phi3ForCausalLM, False, {"pad_token_id": None}),
}


@pytest.mark.parametrize("method", ("impact", "flap"))
@pytest.mark.parametrize("architecture", OTHERS)
def test_other_architectures(architecture: str, method: str, run: Callable[..., Compressed], tmp_path: Path) -> None:
    """A checkpoint on the disk becomes another of the compressed type, of the size that it says."""
    causal_lm, tied, extra = OTHERS[architecture]
    done = run(model=str(write_dense(tmp_path / "dense", causal_lm, tied, **extra)), keep=50, method=method)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.config.model_type == f"impact_{architecture}"
    assert (loaded.dtype, parameter_count(loaded)) == (torch.bfloat16, done.parameters)
    assert done.parameters < done.dense_parameters
    assert loaded.config.tie_word_embeddings == (tied and method == "flap")  # which leaves lm_head alone
    # every Linear, one for q, k and v or for gate and up as one
    dense = AutoModelForCausalLM.from_pretrained(tmp_path / "dense")
    linears = {name for name, module in dense.named_modules() if isinstance(module, torch.nn.Linear)}
    assert method != "impact" or (loaded.config.impact_ranks == done.kept and done.kept.keys() == linears)
    ids = torch.arange(1, 20).view(1, -1)
    with torch.no_grad():
        assert bool(loaded(ids).logits.isfinite().all())


def test_it_shows_how_far_it_is(run: Callable[..., Compressed]) -> None:
    shown = io.StringIO()
    run(keep=50, console=Console(file=shown, force_terminal=True, width=100))
    assert "calibration" in shown.getvalue()
    assert "3/3" in shown.getvalue()
    assert "15/15" in shown.getvalue()


def test_calibration_of_a_method_without_statistics_is_optional(run: Callable[..., Compressed]) -> None:
    assert run(method="svd", keep=50, calibration=None).parameters > 0


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"keep": None}, "either --keep or --target-size"),
        ({"keep": 50, "target_size": 1.0}, "not both"),
        ({"keep": 0}, "(0, 100]"),
        ({"keep": 101}, "(0, 100]"),
        ({"keep": float("nan")}, "(0, 100]"),
        ({"target_size": -1.0}, "--target-size"),
        ({"target_size": float("nan")}, "--target-size"),
        ({"keep": 50, "method": "impcat"}, "did you mean 'impact'?"),
        ({"keep": 50, "method": "svd", "eta": 0.5}, "svd has no setting eta"),
        ({"keep": 50, "eta": 1.5}, "[0, 1]"),
        ({"keep": 50, "calibration": None}, "--calibration"),
        ({"keep": 50, "model": "no/such-model"}, "no/such-model"),
        ({"target_size": 1e-6}, "out of reach"),
        ({"keep": 50, "max_length": 1}, "--max-length"),
        ({"target_size": 1.0}, "no more than the target"),
    ],
)
def test_a_mistake_is_one_line(
    changed: dict[str, Any], expected: str, run: Callable[..., Compressed], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert expected in refusal(lambda: run(**changed), tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "empty"),
        ('{"query": "1", "response": "2"}\n{"query": "1"}\n', "line 2"),
        ('{"query": "1", "response": "2"}\n\nnonsense\n', "line 2"),
        ('{"query": "1", "response": 3}\n', "line 1"),
        ('{"query": "1", "response": "3", "input": ["x"]}\n', 'line 1: field "input" is not a string'),
        ('{"query": "1", "response": "3"}\n{"query": "\\ud83d", "response": "3"}\n', "line 2"),
        ('{"query": "1", "response": "3", "input": "x\\udc00"}\n', "half a surrogate pair, \\udc00"),
    ],
)
def test_a_bad_calibration_line_is_named(
    content: str, expected: str, run: Callable[..., Compressed], calibration: Path, tmp_path: Path
) -> None:
    calibration.write_text(content)
    message = refusal(lambda: run(keep=50), tmp_path)
    assert expected in message
    assert str(calibration) in message


def test_an_input_of_null_is_none(calibration: Path) -> None:
    calibration.write_text('{"query": "1", "response": "2", "input": null}\n{"query": "1", "response": "2"}\n')
    assert [training_prompt(row) for row in read_training_rows(calibration)] == [instruction_prompt("1")] * 2


def test_existing_output_is_left_alone(run: Callable[..., Compressed], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "exists" in refusal(lambda: run(keep=50), tmp_path)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_what_is_no_dense_model_is_refused(run: Callable[..., Compressed], dense: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "config.json" in refusal(lambda: run(keep=50, model=str(empty)), tmp_path)
    run(keep=50)
    assert "compressed already" in refusal(
        lambda: run(keep=50, model=str(tmp_path / "out"), out=tmp_path / "twice"), tmp_path
    )
    (empty / "config.json").write_text('{"model_type": "gpt2"}')
    assert "gpt2" in refusal(lambda: run(keep=50, model=str(empty), out=tmp_path / "other"), tmp_path)
    for path in dense.iterdir():
        (empty / path.name).write_bytes(path.read_bytes())
    (empty / "model.safetensors").write_bytes((dense / "model.safetensors").read_bytes()[:-9])
    assert "can't be loaded" in refusal(lambda: run(keep=50, model=str(empty), out=tmp_path / "cut"), tmp_path)
    torch.save({}, empty / "pytorch_model.bin")
    (empty / "model.safetensors").unlink()
    assert "safetensors" in refusal(lambda: run(keep=50, model=str(empty), out=tmp_path / "pickle"), tmp_path)


def test_what_nobody_foresaw_passes_as_it_is_and_leaves_nothing(
    run: Callable[..., Compressed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command shows its class, its causes and where its traceback is; a library's ValueError is no exception."""
    before = sorted(tmp_path.iterdir())
    for broken in (lambda *_: [][0], lambda *_: json.loads("{")):
        monkeypatch.setattr("experiments.commands.compress.compress", broken)
        with pytest.raises((IndexError, json.JSONDecodeError)):
            run(keep=50)
        assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_is_one_line(
    run: Callable[..., Compressed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("experiments.commands.compress.save_components", full)
    assert f"no space left on the device of {tmp_path}" in refusal(lambda: run(keep=50), tmp_path)


def test_an_interruption_leaves_nothing(
    run: Callable[..., Compressed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.commands.compress.compress", interrupted)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        run(keep=50)
    assert sorted(tmp_path.iterdir()) == before


def test_rows_that_a_limit_cuts_are_counted_and_those_it_empties_are_none(
    run: Callable[..., Compressed], dense: Path, calibration: Path, tmp_path: Path
) -> None:
    def calibrated(name: str, rows: list[dict[str, str]], limit: int) -> tuple[dict[str, torch.Tensor], str]:
        calibration.write_text("".join(json.dumps(row) + "\n" for row in rows))
        shown = io.StringIO()
        run(method="flap", keep=60, max_length=limit, out=tmp_path / name, console=Console(file=shown, width=80))
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        assert model.config.impact_recipe["rows"] == 4
        return model.state_dict(), shown.getvalue()

    long = {"query": "1 " * 40, "response": "2"}
    limit = len(AutoTokenizer.from_pretrained(dense)(training_prompt(long)).input_ids)
    kept = [*ROWS[:3], {"query": "1", "response": "2 " * limit}]
    some, said = calibrated("some", [*kept[:2], long, *kept[2:], long], limit)
    assert f"6 rows, 1 of them cut after {limit} tokens, 2 dropped because nothing of their response was left" in said
    same, said = calibrated("same", kept, limit)
    assert "4 rows, 1 of them cut" in said and "0 dropped" in said
    assert all(torch.equal(tensor, same[name]) for name, tensor in some.items())

    calibration.write_text(json.dumps(long))
    message = refusal(lambda: run(method="flap", keep=60, max_length=limit, out=tmp_path / "none"), tmp_path)
    assert f"the shortest prompt has {limit} tokens: set --max-length, now {limit}, above that" in message
    assert str(calibration) in message


def test_stages_refuse_calibration_rows_that_a_limit_empties(dense: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(dense)
    shortest = min(len(tokenizer(training_prompt(row)).input_ids) for row in ROWS)
    with pytest.raises(
        UserError, match=rf"fills the {shortest} tokens .* set a larger max_length under \[calibration\]"
    ):
        batches(tokenizer, ROWS, 4, shortest)
    assert sum(len(batch.labels) for batch in batches(tokenizer, ROWS, 4, shortest + 1)) == len(ROWS)
