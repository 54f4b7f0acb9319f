"""What compress, --external and --model-dir refuse is known before the first layer: one line, and nothing is left."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig

from experiments.commands.compress import compress_model
from experiments.errors import UserError
from experiments.jobs.external import checkpoint_hash
from experiments.stages.models import load_checkpoint
from impact.compressible import check_checkpoint
from impact.export import ARCHITECTURES

Change = Callable[[Path], object]
ROWS = [{"query": f"{i} {i + 3}", "response": " ".join(str(i + j) for j in range(1, 9))} for i in range(1, 5)]


@pytest.fixture
def changed(brought: Path, tmp_path: Path) -> Callable[[Change], Path]:
    def change(by: Change) -> Path:
        shutil.copytree(brought, tmp_path / "model")
        by(tmp_path / "model")
        return tmp_path / "model"

    return change


@pytest.fixture
def compressed(tmp_path: Path) -> Callable[..., str]:
    """(model) -> what is printed."""

    def run(model: Path | str) -> str:
        printed = io.StringIO()
        rows = tmp_path / "rows.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        console = Console(file=printed, width=200)
        compress_model(str(model), tmp_path / "out", keep=60, calibration=rows, console=console)
        return printed.getvalue()

    return run


def edited(name: str, **settings: Any) -> Change:
    def edit(directory: Path) -> None:
        file = directory / name
        there = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**there, **settings}))

    return edit


def config(**settings: Any) -> Change:
    return edited("config.json", **settings)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def rewrite(directory: Path) -> None:
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def all_of(*changes: Change) -> Change:
    return lambda directory: [change(directory) for change in changes]


def without(*names: str) -> Change:
    return lambda directory: [(directory / name).unlink() for name in names]


def with_tokens(count: int, **settings: str) -> Change:
    def add(directory: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(directory)
        tokenizer.add_tokens([f"<{i}>" for i in range(count)])
        tokenizer.save_pretrained(directory)
        edited("tokenizer_config.json", **settings)(directory)

    return add


UP = "model.layers.1.mlp.up_proj.weight"


def fill(value: float) -> Change:
    return weights(lambda tensors: tensors[UP][3].fill_(value))


def as_int8(tensors: dict[str, torch.Tensor]) -> None:
    tensors[UP] = tensors[UP].to(torch.int8)


REFUSED = {
    "NF4": (config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), "(bitsandbytes)"),
    "int8": (config(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}), "(bitsandbytes)"),
    "FP8": (config(quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]}), "quantized (fp8)"),
    "int8 unsaid": (weights(as_int8), "quantized (layers.1.mlp.up_proj.weight is I8)"),
    "adapter": (edited("adapter_config.json", peft_type="LORA"), "an adapter lies beside its weights"),
    "adapter alone": (
        all_of(edited("adapter_config.json", peft_type="LORA"), without("config.json", "model.safetensors")),
        "it is an adapter and no model",
    ),
    "no config": (without("config.json"), "it holds no config.json"),
    "config damaged": (lambda directory: (directory / "config.json").write_text("{"), "config.json is damaged"),
    "no weights": (without("model.safetensors"), "it holds no safetensors; pickled weights are not loaded"),
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "it holds no tokenizer"),
    "damaged tokenizer": (
        all_of(
            without("tokenizer.json"), lambda directory: (directory / "tokenizer.model").write_bytes(b"\n\x0bwords")
        ),
        "its tokenizer is damaged, or of no known form (tokenizer.model)",
    ),
    "tokens": (with_tokens(2), "beyond the 61 rows of its embedding ('<1>' is 62)"),
    "layers": (config(num_hidden_layers=10**9), "speaks of 1,000,000,000 layers"),
    "no layers": (config(num_hidden_layers=-2), "speaks of -2 layers"),
    "width": (config(hidden_size=32), "has the shape [61, 16], and by its config.json [61, 32]"),
    "vocabulary": (config(vocab_size=70), "has the shape [61, 16], and by its config.json [70, 16]"),
    "no heads": (config(num_attention_heads=0, head_dim=None), "can't be loaded: ZeroDivisionError"),
    "NaN": (fill(torch.nan), f"its {UP} holds values that are infinite or no numbers"),
    "infinity": (fill(torch.inf), f"its {UP} holds values that are infinite or no numbers"),
    "lacks a weight": (weights(lambda tensors: tensors.pop(UP)), "lacks weights"),
    "code": (
        config(model_type="mine", auto_map={"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}),
        "it is a 'mine', which takes code that the checkpoint brings",
    ),
    "a tokenizer's code": (
        edited("tokenizer_config.json", auto_map={"AutoTokenizer": [None, "mine.Mine"]}, tokenizer_class="Mine"),
        "its tokenizer takes code that the checkpoint brings",
    ),
}
NOT_COMPRESSED = {
    "Mixtral": (config(model_type="mixtral", num_local_experts=8), "it is a mixture of experts (mixtral)"),
    "experts": (config(num_experts=8), "it is a mixture of experts (num_experts)"),
    "unknown": (config(model_type="gpt2"), f"it is a 'gpt2'; what can be compressed is {', '.join(ARCHITECTURES)}"),
    "fewer layers": (config(num_hidden_layers=1), "weights that its config.json knows nothing of: layers.1."),
    "more layers": (config(num_hidden_layers=3), "lacks weights that its config.json asks for: layers.2."),
    "overflow": (
        weights(lambda tensors: tensors[UP].fill_(1e38)),
        "its activations overflow: model.layers.1.mlp.up_proj",
    ),
    "a length of -1": (edited("generation_config.json", max_new_tokens=-1), "generation_config.json"),
    "a padding of -1": (
        edited("generation_config.json", pad_token_id=-1),
        "would not write its generation_config.json",
    ),
}


def test_what_was_read_from_a_gguf_file_is_compressible(changed: Callable[[Change], Path]) -> None:
    model = changed(config(quantization_config={"quant_method": "gguf"}))
    assert check_checkpoint(model, compressible=True).model_type == "llama"


@pytest.mark.parametrize("name", REFUSED | NOT_COMPRESSED)
def test_a_model_that_cannot_be_exported_is_refused_before_the_first_layer(
    name: str,
    changed: Callable[[Change], Path],
    compressed: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    change, expected = (REFUSED | NOT_COMPRESSED)[name]
    model = changed(change)
    for later in ("calibrate", "prepare_units"):
        monkeypatch.setattr(f"experiments.commands.compress.{later}", lambda *_: pytest.fail("a layer was reached"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    with pytest.raises(UserError) as refused:
        compressed(model)
    assert str(model) in str(refused.value) and expected in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "rows.jsonl"}


@pytest.mark.parametrize("name", REFUSED)
def test_it_cannot_be_measured_either(name: str, changed: Callable[[Change], Path], tmp_path: Path) -> None:
    """--external asks the files before anything runs, and its stage the weights; --model-dir all of it, as compress."""
    change, expected = REFUSED[name]
    model = changed(change)
    for asked in (checkpoint_hash, lambda place: load_checkpoint(place, "auto", compressible=False)):
        if asked is checkpoint_hash and name in ("NaN", "infinity", "lacks a weight"):
            asked(str(model))
            continue
        with pytest.raises(UserError) as refused:
            asked(str(model))
        assert expected in str(refused.value) and "\n" not in str(refused.value)


def test_what_only_compression_refuses_can_be_measured(changed: Callable[[Change], Path]) -> None:
    model = changed(edited("generation_config.json", pad_token_id=-1))
    assert checkpoint_hash(str(model))
    with pytest.raises(UserError, match=r"would not write its generation_config.json again"):
        checkpoint_hash(str(model), compressible=True)


def test_a_factor_beyond_half_precision_is_no_model(
    changed: Callable[[Change], Path], compressed: Callable[..., str], tmp_path: Path
) -> None:
    """The weights fit; only what is made of them doesn't."""
    model = changed(
        all_of(
            weights(lambda tensors: tensors.update({name: tensor.half() for name, tensor in tensors.items()})),
            weights(lambda tensors: tensors[UP].fill_(40_000)),
            config(dtype="float16"),
        )
    )
    with pytest.raises(UserError, match=r"its model.layers.1.mlp.up_proj.down.weight holds values .*, in float16"):
        compressed(model)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "rows.jsonl"}


def test_shards_are_read_like_one_file(brought: Path, tmp_path: Path) -> None:
    model, tokenizer, dtype = load_checkpoint(str(brought), "auto", compressible=True)
    assert dtype == torch.bfloat16
    model.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    tokenizer.save_pretrained(tmp_path / "shards")
    assert checkpoint_hash(str(tmp_path / "shards"), compressible=True)
    next((tmp_path / "shards").glob("*-00002-of-*")).unlink()
    with pytest.raises(UserError, match=r"holds no model-00002-of-.*, which its index names"):
        checkpoint_hash(str(tmp_path / "shards"), compressible=True)


@pytest.mark.parametrize(
    ("settings", "said", "written"),
    [
        ({"temperature": 0.6, "top_p": 0.9}, "written with do_sample true", (True, 0.6, 0.9)),
        ({"temperature": 0.6, "do_sample": False}, "written without", (False, None, None)),
        ({"temperature": 0.0}, "written without", (None, None, None)),
        ({"temperature": 0.6, "do_sample": True}, "", (True, 0.6, None)),
    ],
)
def test_sampling_values_without_do_sample_are_mended(
    settings: dict[str, Any],
    said: str,
    written: tuple[object, ...],
    changed: Callable[[Change], Path],
    compressed: Callable[..., str],
    tmp_path: Path,
) -> None:
    model = changed(edited("generation_config.json", **settings))
    printed = compressed(model)
    lines = [line for line in printed.splitlines() if "generation_config.json" in line]
    assert len(lines) == bool(said) and all(said in line and str(model) in line for line in lines)
    made = GenerationConfig.from_pretrained(tmp_path / "out")
    assert (made.do_sample, made.temperature, made.top_p) == written


def test_code_that_a_checkpoint_brings_is_not_run_and_not_handed_on(
    changed: Callable[[Change], Path],
    compressed: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')\nclass Mine: pass\n"
    model = changed(
        all_of(
            config(auto_map={"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Mine"}),
            edited("tokenizer_config.json", auto_map={"AutoTokenizer": [None, "mine.Mine"]}),
            lambda directory: (directory / "mine.py").write_text(code),
        )
    )
    compressed(model)
    out = tmp_path / "out"
    assert not ran.exists() and not (out / "mine.py").exists()
    assert not any("mine." in path.read_text() for path in out.glob("*.json"))
    loaded, _, _ = load_checkpoint(str(model), "auto", compressible=False)
    assert not hasattr(loaded.config, "auto_map")


def test_what_stands_for_an_image_needs_no_row(changed: Callable[[Change], Path]) -> None:
    """A model of text may share its tokenizer with one that sees."""
    assert checkpoint_hash(str(changed(with_tokens(1, image_token="<0>"))), compressible=True)


def test_a_sentencepiece_model_is_tokenizer_enough(
    changed: Callable[[Change], Path], compressed: Callable[..., str], tmp_path: Path
) -> None:
    model, trained = changed(without("tokenizer.json")), io.BytesIO()
    settings = {"tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", "eos_token": "</s>"}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    sentences = (" ".join(str(i * j) for i in range(30)) for j in range(200))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences, model_writer=trained, vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    (model / "tokenizer.model").write_bytes(trained.getvalue())
    compressed(model)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue()).encode("12 20 7")
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("12 20 7", add_special_tokens=False).input_ids == pieces


def test_the_cause_of_a_librarys_error_is_said(
    brought: Path, compressed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        try:
            raise ImportError("nothing to read it with")
        except ImportError as error:
            raise ValueError("\nno tokenizer\n") from error

    monkeypatch.setattr("impact.compressible.AutoTokenizer.from_pretrained", fails)
    with pytest.raises(UserError) as refused:
        compressed(brought)
    assert str(refused.value) == (
        f"{brought} can't be loaded: ValueError: no tokenizer, because of ImportError: nothing to read it with"
    )


@pytest.mark.parametrize("known", [True, False])
def test_a_name_on_the_hub_is_looked_at_before_its_weights_are_fetched(
    known: bool, brought: Path, compressed: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def fetched(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append("model*.safetensors" in allow_patterns)
        place = tmp_path / "hub"
        shutil.copytree(brought, place, dirs_exist_ok=True)
        if not known:
            config(model_type="gpt2")(place)
        return str(place)

    monkeypatch.setattr("experiments.stages.models.snapshot_download", fetched)
    if known:
        compressed("somebody/model")
    else:
        with pytest.raises(UserError, match=r"^somebody/model: it is a 'gpt2'"):
            compressed("somebody/model")
    assert asked == [False, True][: 1 + known]
