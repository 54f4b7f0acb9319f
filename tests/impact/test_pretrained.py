"""Compressed checkpoints as ordinary Hugging Face directories: same function everywhere, or one clear line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from baselines.flap import Flap
from baselines.svd import Svd
from impact.checkpoint import load_model, save_model
from impact.compression import compress, parameter_count, prepare_units, untie_embeddings
from impact.export import export_model
from impact.modeling_impact import CheckpointError, FactorisedLinear
from impact.registration import register

VOCABULARY = 61
ARCHITECTURES: dict[str, Any] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4}),
    "gqa": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 2}),
    "mistral": (MistralConfig, MistralForCausalLM, {"num_key_value_heads": 2, "sliding_window": 6}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"num_key_value_heads": 2}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"num_key_value_heads": 2, "head_dim": 8}),
    "gemma3": (
        Gemma3TextConfig,
        Gemma3ForCausalLM,
        {
            "num_key_value_heads": 2,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "phi3": (Phi3Config, Phi3ForCausalLM, {"num_key_value_heads": 2, "sliding_window": 6}),
}
KINDS = ("factorised", "mixed", "pruned", "pruned and factorised")
CACHES: dict[str, dict[str, Any]] = {
    "growing": {},
    "static": {"cache_implementation": "static", "disable_compile": True},
    "static, the prompt in pieces": {
        "cache_implementation": "static",
        "disable_compile": True,
        "prefill_chunk_size": 4,
    },
}
WEIGHTS = "model.safetensors"


def dense(architecture: str, tied: bool = False, width: int = 16) -> Any:
    config, causal_lm, extra = ARCHITECTURES[architecture]
    torch.manual_seed(0)
    model = causal_lm(
        config(
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            tie_word_embeddings=tied,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
            **extra,
        )
    )
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.4)
    return model.eval()


def compressed(architecture: str, kind: str = "mixed", tied: bool = False, width: int = 16) -> Any:
    """Factorised by another rank for each layer, or in all but every fourth; or pruned, the first layer's attention
    and MLP and the second's MLP; or pruned, and factorised in the second layer's attention and lm_head."""
    model = dense(architecture, tied, width)
    if kind.startswith("pruned"):
        prune(model)
    if kind != "pruned":
        untie_embeddings(model)
        components = dict(prepare_units(Svd(), model, {}))
        ranks: dict[str, int | None] = {name: 1 + i % 4 for i, name in enumerate(components)}
        if kind == "mixed":
            ranks |= dict.fromkeys(list(components)[1::4])
        elif kind == "pruned and factorised":
            ranks |= dict.fromkeys(name for name in components if "layers.0" in name or "mlp" in name)
        compress(model, Svd(), components, ranks, {})
    return model


def prune(model: Any) -> None:
    random = torch.Generator().manual_seed(1)
    statistics = {
        unit.name: {
            f"channel_{moment}": torch.rand(model.get_submodule(unit.name).in_features, generator=random)
            for moment in ("mean", "variance")
        }
        for unit in Flap().units(model)
    }
    components = dict(prepare_units(Flap(), model, statistics))
    kept = {name: tuple(range(1, c.shape[1], 3 if "layers.1" in name else 2)) for name, c in components.items()}
    compress(model, Flap(), components, kept | {"model.layers.1.self_attn.o_proj": None}, {})


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    vocabulary = {"[UNK]": 0} | {str(i): i for i in range(1, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="1", pad_token="2")


@pytest.fixture(autouse=True)
def registered() -> None:
    register()


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(1, VOCABULARY, (2, 11), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    export_model(compressed("gqa"), None, tmp_path / "model")
    return tmp_path / "model"


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids).logits


def refusal(load: Callable[[], Any]) -> str:
    with pytest.raises(CheckpointError) as refused:
        load()
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_round_trip_is_bit_for_bit(architecture: str, kind: str, ids: torch.Tensor, tmp_path: Path) -> None:
    model = compressed(architecture, kind)
    export_model(model, None, tmp_path / "a")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    assert type(loaded).__module__ == "impact.modeling_impact"
    assert not loaded.training
    assert parameter_count(loaded) == parameter_count(model)
    assert torch.equal(logits(loaded, ids), logits(model, ids))
    loaded.save_pretrained(tmp_path / "b")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "b")
    assert torch.equal(logits(again, ids), logits(model, ids))
    first, second = (json.loads((tmp_path / name / "config.json").read_text()) for name in "ab")
    assert first == second
    assert {path.name for path in (tmp_path / "a").iterdir()} == {path.name for path in (tmp_path / "b").iterdir()}


@pytest.mark.parametrize("kind", ("mixed", "pruned and factorised"))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_base_model_loads_without_lm_head(architecture: str, kind: str, ids: torch.Tensor, tmp_path: Path) -> None:
    model = compressed(architecture, kind)
    export_model(model, None, tmp_path / "a")
    base = AutoModel.from_pretrained(tmp_path / "a")
    with torch.no_grad():
        assert torch.equal(base(ids).last_hidden_state, model.model(ids).last_hidden_state)
    base.save_pretrained(tmp_path / "b")
    with torch.no_grad():
        again = AutoModel.from_pretrained(tmp_path / "b")
        assert torch.equal(again(ids).last_hidden_state, model.model(ids).last_hidden_state)
    assert "lm_head" in refusal(lambda: AutoModelForCausalLM.from_pretrained(tmp_path / "b"))


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("kind", ("mixed", "pruned"))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_generation_with_the_cache_is_generation_without(
    architecture: str, kind: str, cache: str, ids: torch.Tensor, tmp_path: Path
) -> None:
    in_memory = compressed(architecture, kind)
    export_model(in_memory, None, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 12, "do_sample": False}
    with_cache = model.generate(ids, use_cache=True, **settings, **CACHES[cache])
    assert torch.equal(with_cache, model.generate(ids, use_cache=False, **settings))
    assert with_cache.shape == (2, 23)
    if cache == "growing":  # and what the model in memory says
        assert torch.equal(with_cache, in_memory.generate(ids, **settings))


STRANGER = """
import sys
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
directory, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)
base = AutoModel.from_pretrained(directory, trust_remote_code=True)
assert "impact" not in sys.modules, "the project was found"
ids = AutoTokenizer.from_pretrained(directory)("5 9 13 22 60", return_tensors="pt").input_ids
with torch.no_grad():
    tokens = model.generate(ids, max_new_tokens=8, do_sample=False)
    torch.save((ids, model(ids).logits, base(ids).last_hidden_state, tokens), out)
model.save_pretrained(directory + "-again")
"""


def stranger(program: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process that sees neither this project's folder nor its installation (-I: no current directory, no PYTHON*)."""
    hidden = (
        "import sys, importlib.abc\n"
        "class Hidden(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.split('.')[0] in ('impact', 'baselines', 'evals', 'experiments'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    environment = os.environ | {
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    return subprocess.run(
        [sys.executable, "-I", "-c", hidden + program, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("architecture", "kind"),
    (
        ("gqa", "pruned"),
        ("mistral", "mixed"),
        ("qwen2", "pruned and factorised"),
        ("gemma3", "mixed"),
        ("phi3", "pruned"),
    ),
)
def test_a_process_that_never_heard_of_this_project_loads_it(
    architecture: str, kind: str, tokenizer: Any, tmp_path: Path
) -> None:
    model = compressed(architecture, kind)
    export_model(model, tokenizer, tmp_path / "model")
    ran = stranger(STRANGER, str(tmp_path / "model"), str(tmp_path / "out.pt"), folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    ids, seen, hidden, tokens = torch.load(tmp_path / "out.pt")
    assert torch.equal(seen, logits(model, ids))
    with torch.no_grad():
        assert torch.equal(hidden, model.model(ids).last_hidden_state)
    assert torch.equal(tokens, model.generate(ids, max_new_tokens=8, do_sample=False))
    again = tmp_path / "model-again"
    assert (again / "modeling_impact.py").read_bytes() == (tmp_path / "model" / "modeling_impact.py").read_bytes()
    config = json.loads((again / "config.json").read_text())
    assert config["auto_map"] == json.loads((tmp_path / "model" / "config.json").read_text())["auto_map"]
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(again), ids), logits(model, ids))


def test_a_stranger_refuses_it_in_one_line_as_well(saved: Path, tmp_path: Path) -> None:
    weights = saved / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-8])
    program = (
        "from transformers import AutoModelForCausalLM\n"
        "AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)"
    )
    ran = stranger(program, str(saved), folder=tmp_path)
    assert ran.returncode == 1
    *_, last = ran.stderr.strip().splitlines()
    assert "CheckpointError" in last
    assert "cut short" in last


def test_the_modeling_file_imports_torch_and_transformers_alone() -> None:
    import ast

    import impact.modeling_impact as file

    tree = ast.parse(Path(file.__file__).read_text())
    roots = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert roots - set(sys.stdlib_module_names) == {"torch", "transformers"}


@pytest.mark.parametrize("first", ("impact", "transformers"))
def test_importing_the_package_registers_and_costs_no_torch(first: str, saved: Path) -> None:
    program = (
        "import impact, sys; assert 'torch' not in sys.modules; import transformers"
        if first == "impact"
        else "from transformers import AutoModelForCausalLM; import impact, sys"
    )
    program += (
        "; from transformers import AutoModelForCausalLM, AutoModel, AutoConfig"
        "; model = AutoModelForCausalLM.from_pretrained(sys.argv[1])"
        "; assert type(model).__module__ == 'impact.modeling_impact'"
        "; assert type(AutoModel.from_pretrained(sys.argv[1])).__name__ == 'ImpactLlamaModel'"
    )
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", program, str(saved)], cwd=root, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("kind", ("mixed", "pruned"))
def test_it_exports_what_the_pipeline_stores(kind: str, tokenizer: Any, ids: torch.Tensor, tmp_path: Path) -> None:
    model = compressed("qwen2", kind)
    save_model(model, tmp_path / "pipeline")
    export_model(load_model(tmp_path / "pipeline"), tokenizer, tmp_path / "model", recipe={"method": "svd"})
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model"), ids), logits(model, ids))
    assert AutoTokenizer.from_pretrained(tmp_path / "model")("5 9").input_ids == [5, 9]
    assert AutoConfig.from_pretrained(tmp_path / "model").impact_recipe == {"method": "svd"}


@pytest.mark.parametrize("architecture", ("qwen2", "qwen3", "gemma3"))
def test_a_dense_head_may_stay_tied(architecture: str, ids: torch.Tensor, tmp_path: Path) -> None:
    model = dense(architecture, tied=True)
    components = dict(prepare_units(Svd(), model, {}))
    compress(model, Svd(), components, {name: None if name == "lm_head" else 4 for name in components}, {})
    export_model(model, None, tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(logits(loaded, ids), logits(model, ids))


@pytest.mark.parametrize("architecture", ("qwen2", "qwen3", "gemma3"))
def test_a_tied_model_is_untied_before_its_head_is_factorised(
    architecture: str, ids: torch.Tensor, tmp_path: Path
) -> None:
    model = compressed(architecture, "factorised", tied=True)
    export_model(model, None, tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert isinstance(loaded.lm_head, FactorisedLinear)
    assert torch.equal(logits(loaded, ids), logits(model, ids))


def test_it_can_be_stored_in_half_precision(tmp_path: Path) -> None:
    model = compressed("gqa")
    export_model(model, None, tmp_path / "model", dtype=torch.bfloat16)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert loaded.dtype == torch.bfloat16
    assert model.dtype == torch.float32
    rounded = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    assert all(torch.equal(tensor, rounded[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("architecture", ("gqa", "qwen3", "gemma3", "phi3"))
def test_it_can_be_sharded(architecture: str, ids: torch.Tensor, tmp_path: Path) -> None:
    model = compressed(architecture)
    export_model(model, None, tmp_path / "model", max_shard_size="4KB")
    shards = sorted((tmp_path / "model").glob("model-*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model"), ids), logits(model, ids))
    shards[0].unlink()
    assert shards[0].name in refusal(lambda: AutoModelForCausalLM.from_pretrained(tmp_path / "model"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", (70, 40))
def test_the_vocabulary_can_be_resized(kind: str, tokens: int, ids: torch.Tensor, tmp_path: Path) -> None:
    export_model(compressed("gqa", kind), None, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = ids % 40
    before = logits(model, ids)
    model.resize_token_embeddings(tokens)
    after = logits(model, ids)
    assert after.shape[-1] == tokens
    # another number of columns may be summed in another order
    torch.testing.assert_close(after[..., :40], before[..., :40])
    model.save_pretrained(tmp_path / "resized")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "resized"), ids), after)


def test_every_factor_is_trained(saved: Path, ids: torch.Tensor) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved)
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for n, p in model.named_parameters() if ".up." in n)


def test_the_pair_does_not_look_like_one_matrix() -> None:
    pair = FactorisedLinear(5, 2, 7)
    assert not hasattr(pair, "in_features")
    assert not hasattr(pair, "out_features")
    assert not hasattr(pair, "weight")


# Refusals


def edited(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((directory / "config.json").read_text())
    change(config)
    (directory / "config.json").write_text(json.dumps(config))


def reweighted(directory: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = weights(directory)
    change(tensors)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})


def weights(directory: Path) -> dict[str, torch.Tensor]:
    """Away from the file, which is a memory map and about to be written over."""
    return load((directory / WEIGHTS).read_bytes())


def pickled(directory: Path) -> None:
    torch.save(weights(directory), directory / "pytorch_model.bin")
    (directory / WEIGHTS).unlink()


def renamed_pickle(directory: Path) -> None:
    torch.save(weights(directory), directory / WEIGHTS)


def truncated(directory: Path, kept: int) -> None:
    (directory / WEIGHTS).write_bytes((directory / WEIGHTS).read_bytes()[:kept])


DOWN = "model.layers.0.self_attn.q_proj.down.weight"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickled": (pickled, "pickled weights (pytorch_model.bin)"),
    "pickled beside": (lambda d: torch.save({}, d / "pytorch_model.bin"), "pickled weights"),
    "pickle renamed": (renamed_pickle, "no safetensors file"),
    "no weights": (lambda d: (d / WEIGHTS).unlink(), "holds no model.safetensors"),
    "empty": (lambda d: truncated(d, 0), "cut short"),
    "no header": (lambda d: truncated(d, 7), "cut short"),
    "half a header": (lambda d: truncated(d, 300), "cut short"),
    "a byte short": (lambda d: truncated(d, -1), "cut short"),
    "garbage": (lambda d: (d / WEIGHTS).write_bytes(b"\x08" + bytes(7) + b"nonsense"), "header can't be read"),
    "shape": (lambda d: reweighted(d, lambda t: t.update({DOWN: t[DOWN][:, 1:].contiguous()})), "q_proj.down.weight"),
    "dense shape": (
        lambda d: reweighted(d, lambda t: t.update({"model.norm.weight": torch.ones(17)})),
        "norm.weight has the shape [17]",
    ),
    "missing": (lambda d: reweighted(d, lambda t: t.__delitem__(DOWN)), "q_proj.down.weight"),
    "left over": (lambda d: reweighted(d, lambda t: t.update({"extra": torch.ones(1)})), "extra"),
    "rank": (lambda d: edited(d, lambda c: c["impact_ranks"].update({"lm_head": 2})), "lm_head"),
    "rank zero": (lambda d: edited(d, lambda c: c["impact_ranks"].update({"lm_head": 0})), "the rank 0"),
    "rank of text": (lambda d: edited(d, lambda c: c["impact_ranks"].update({"lm_head": "two"})), "'two'"),
    "ranks gone": (lambda d: edited(d, lambda c: c.pop("impact_ranks")), "no rank in config.json"),
    "one rank gone": (lambda d: edited(d, lambda c: c["impact_ranks"].pop("lm_head")), "lm_head is factorised"),
    "one rank too many": (
        lambda d: edited(d, lambda c: c["impact_ranks"].update({"model.layers.0.self_attn.k_proj": 2})),
        "k_proj is dense",
    ),
    "ranks no map": (lambda d: edited(d, lambda c: c.update({"impact_ranks": [3]})), "impact_ranks"),
    "unknown layer": (lambda d: edited(d, lambda c: c["impact_ranks"].update({"model.tail": 2})), "model.tail"),
    "no linear": (lambda d: edited(d, lambda c: c["impact_ranks"].update({"model.norm": 2})), "LlamaRMSNorm"),
    "layers": (lambda d: edited(d, lambda c: c.update({"num_hidden_layers": 3})), "layers.2"),
    "tied head": (lambda d: edited(d, lambda c: c.update({"tie_word_embeddings": True})), "lm_head"),
}


@pytest.fixture
def here(saved: Path) -> Iterator[Callable[[], Any]]:
    yield lambda: AutoModelForCausalLM.from_pretrained(saved)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused(damage: str, saved: Path, here: Callable[[], Any]) -> None:
    do, expected = DAMAGES[damage]
    here()
    do(saved)
    message = refusal(here)
    assert expected in message
    assert str(saved) in message


BLOCK = "model.layers.0."
WHOLE = {"in_features": 16, "out_features": 16, "bias": False}


def repruned(**changes: Any) -> Callable[[Path], None]:
    """Other widths, and biases, of layers of the first layer's blocks."""

    def change(config: dict[str, Any]) -> None:
        for name, new in changes.items():
            (layer,) = (layer for layer in config["impact_pruned"] if layer.startswith(BLOCK) and layer.endswith(name))
            config["impact_pruned"][layer] = config["impact_pruned"][layer] | new if isinstance(new, dict) else new

    return lambda directory: edited(directory, change)


def also(setting: str, name: str, shape: Any) -> Callable[[Path], None]:
    return lambda directory: edited(directory, lambda c: c.update({setting: (c.get(setting) or {}) | {name: shape}}))


# By 4 heads of 4 channels, each two of which share one of 2 of keys and values, of which 1 is left.
WRONG_WIDTHS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no map": (lambda d: edited(d, lambda c: c.update({"impact_pruned": [3]})), "impact_pruned must map"),
    "unknown layer": (also("impact_pruned", "model.layers.7.mlp.up_proj", WHOLE), "do not have"),
    "no linear": (also("impact_pruned", "model.norm", WHOLE), "LlamaRMSNorm"),
    "head": (also("impact_pruned", "lm_head", WHOLE), "only layers of attention blocks and MLPs"),
    "both": (also("impact_ranks", BLOCK + "mlp.up_proj", 3), "both factorises and prunes model.layers.0.mlp.up_proj"),
    "a number": (repruned(up_proj=20), "up_proj 20: it needs out_features from 1 to 40"),
    "none": (repruned(up_proj=None), "up_proj None"),
    "zero": (repruned(down_proj={"in_features": 0}), "it needs in_features from 1 to 40"),
    "negative": (repruned(down_proj={"in_features": -1}), "it needs in_features from 1 to 40"),
    "more than there were": (repruned(down_proj={"in_features": 41}), "it needs in_features from 1 to 40"),
    "text": (repruned(down_proj={"in_features": "20"}), "it needs in_features"),
    "a fraction": (repruned(down_proj={"in_features": 20.0}), "it needs in_features"),
    "true": (repruned(down_proj={"in_features": True}), "it needs in_features"),
    "bias of a number": (repruned(down_proj={"bias": 1}), "a bias of true or false"),
    "one key too many": (repruned(down_proj={"rank": 1}), "it needs in_features"),
    "residual stream": (repruned(down_proj={"out_features": 8}), "out_features 16"),
    "half a head": (repruned(k_proj={"out_features": 2}), "self_attn with these channels: q_proj 8, k_proj 2"),
    "heads of queries": (repruned(q_proj={"out_features": 16}), "2 of q_proj and o_proj share one of k_proj"),
    "heads of values": (repruned(v_proj={"out_features": 8}), "v_proj 8"),
    "read heads": (repruned(o_proj={"in_features": 12}), "o_proj 12"),
    "neurons": (repruned(gate_proj={"out_features": 19}), "gate_proj 19, up_proj 20, down_proj 20; they must be equal"),
    "a layer gone": (lambda d: edited(d, lambda c: c["impact_pruned"].pop(BLOCK + "mlp.up_proj")), "up_proj 40"),
    "a bias gone": (repruned(down_proj={"bias": False}), "hold layers.0.mlp.down_proj.bias"),
    "a bias too many": (repruned(up_proj={"bias": True}), "lack layers.0.mlp.up_proj.bias"),
    "fewer than there are": (
        repruned(**{f"{name}_proj": {"out_features": 19} for name in ("gate", "up")}, down_proj={"in_features": 19}),
        "has the shape",
    ),
    "all gone": (lambda d: edited(d, lambda c: c.pop("impact_pruned")), "has the shape"),
}


@pytest.mark.parametrize("wrong", WRONG_WIDTHS)
def test_pruned_layers_that_do_not_fit_are_refused(wrong: str, tmp_path: Path) -> None:
    do, expected = WRONG_WIDTHS[wrong]
    directory = tmp_path / "model"
    export_model(compressed("gqa", "pruned"), None, directory)
    AutoModelForCausalLM.from_pretrained(directory)
    do(directory)
    message = refusal(lambda: AutoModelForCausalLM.from_pretrained(directory))
    assert expected in message
    assert str(directory) in message


# By 4 heads of 4 channels, each two of which share one of 2 of keys and values, of which 1 is left; q, k and v in one.
WRONG_FUSED_WIDTHS: dict[str, tuple[Callable[[Path], None], str]] = {
    "heads": (repruned(qkv_proj={"out_features": 12}), "qkv_proj 12; a head has 4"),
    "read heads": (repruned(o_proj={"in_features": 12}), "o_proj 12"),
    "neurons": (
        repruned(gate_up_proj={"out_features": 20}),
        "gate_up_proj 20, down_proj 20; gate_up_proj must have two",
    ),
    "a layer gone": (
        lambda d: edited(d, lambda c: c["impact_pruned"].pop(BLOCK + "mlp.gate_up_proj")),
        "gate_up_proj 80",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_FUSED_WIDTHS)
def test_pruned_layers_that_do_not_fit_a_fused_one_are_refused(wrong: str, tmp_path: Path) -> None:
    do, expected = WRONG_FUSED_WIDTHS[wrong]
    export_model(compressed("phi3", "pruned"), None, tmp_path / "model")
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    do(tmp_path / "model")
    message = refusal(lambda: AutoModelForCausalLM.from_pretrained(tmp_path / "model"))
    assert expected in message


def test_continuous_batching_of_a_pruned_model_is_refused(tmp_path: Path) -> None:
    export_model(compressed("gqa", "pruned"), None, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert "continuous batching" in refusal(lambda: model.generate_batch([[5, 9]]))


def test_pickled_weights_cannot_be_asked_for(saved: Path) -> None:
    assert "safetensors" in refusal(lambda: AutoModelForCausalLM.from_pretrained(saved, use_safetensors=False))


def test_an_existing_directory_is_not_written_over(saved: Path) -> None:
    before = (saved / WEIGHTS).read_bytes()
    assert "exists" in refusal(lambda: export_model(compressed("gqa"), None, saved))
    assert (saved / WEIGHTS).read_bytes() == before


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    class Full:
        def save_pretrained(self, directory: Path) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        export_model(compressed("gqa"), Full(), tmp_path / "model")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_whom_the_umask_lets_read_it_can(umask: int, file: int, folder: int, tokenizer: Any, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        export_model(compressed("gqa"), tokenizer, tmp_path / "model")
    finally:
        os.umask(before)
    assert (tmp_path / "model").stat().st_mode & 0o777 == folder
    assert {path.name for path in (tmp_path / "model").iterdir() if path.stat().st_mode & 0o777 != file} == set()


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=11))
    message = refusal(lambda: export_model(model, None, tmp_path / "model"))
    assert "gpt2" in message
    assert "llama, mistral, qwen2" in message


@pytest.mark.parametrize(
    "first",
    [
        "import transformers.modeling_layers",
        "from transformers.models.llama.modeling_llama import LlamaModel",
        "from transformers import AutoModelForCausalLM",
        "import torch",
    ],
)
def test_the_model_types_are_known_in_whatever_order_modules_are_imported(first: str) -> None:
    script = (
        f"import impact\n{first}\nfrom transformers import AutoConfig, AutoModel\n"
        "from impact.registration import MODEL_TYPES\nfrom impact.modeling_impact import classes\n"
        "from impact.architectures import ARCHITECTURES\n"
        "assert MODEL_TYPES == tuple(classes(name)[0].model_type for name in ARCHITECTURES)\n"
        "small = dict(pad_token_id=None)\n"
        "small |= dict(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)\n"
        "for name in MODEL_TYPES:\n"
        "    model = AutoModel.from_config(AutoConfig.for_model(name, **small, num_key_value_heads=1))\n"
        "    assert type(model).__name__.startswith('Impact')\n"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]


QUANTISED: dict[str, dict[str, Any]] = {
    "8 bits": {"load_in_8bit": True},
    "4 bits": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
}


def quantised(directory: Path, bits: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, quantization_config=BitsAndBytesConfig(**QUANTISED[bits]))


@pytest.mark.parametrize(
    # of 64 columns is what bitsandbytes packs once more on some CPUs
    ("kind", "width"),
    (("mixed", 16), ("mixed", 64), ("pruned", 16), ("pruned and factorised", 16)),
)
@pytest.mark.parametrize("bits", QUANTISED)
def test_transformers_quantises_it_saves_it_and_loads_it_again(
    bits: str, kind: str, width: int, ids: torch.Tensor, tmp_path: Path
) -> None:
    exact = compressed("gqa", kind, width=width)
    export_model(exact, None, tmp_path / "full")
    model = quantised(tmp_path / "full", bits)
    linears = {name for name, module in model.model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert linears == {name for name, module in exact.model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert all(not model.model.get_submodule(name).weight.is_floating_point() for name in linears)
    seen = logits(model, ids)
    assert not torch.equal(seen, logits(exact, ids))
    model.save_pretrained(tmp_path / "a")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    assert torch.equal(logits(again, ids), seen)
    again.save_pretrained(tmp_path / "b")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "b"), ids), seen)
    first, second = (weights(tmp_path / name) for name in "ab")
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("kind", ("mixed", "pruned"))
@pytest.mark.parametrize(("bits", "rounding"), (("8 bits", 0.006), ("4 bits", 0.16)))
def test_a_quantised_layer_is_the_same_but_for_rounding(bits: str, rounding: float, kind: str, tmp_path: Path) -> None:
    """By at most half the widest step between two numbers, of 1 for the largest; of whatever widths the layer is."""
    exact = compressed("gqa", kind)
    export_model(exact, None, tmp_path / "full")
    widths = set()
    for name, module in quantised(tmp_path / "full", bits).model.named_modules():
        if isinstance(module, torch.nn.Linear):
            W = exact.model.get_submodule(name).weight.detach()
            x = torch.eye(W.shape[1], requires_grad=True)
            y = module(x)
            y.sum().backward()
            step = rounding * W.abs().max()
            assert (y - module(0 * x) - W.T).abs().max() <= step, name
            assert (x.grad - W.sum(dim=0)).abs().max() <= step * len(W), name
            widths.add(W.shape[1])
    assert widths == ({1, 3, 4, 16, 40} if kind == "mixed" else {8, 13, 16, 20})


def test_a_stranger_loads_a_quantised_one(tokenizer: Any, tmp_path: Path) -> None:
    export_model(compressed("qwen2", "pruned and factorised"), tokenizer, tmp_path / "full")
    model = quantised(tmp_path / "full", "8 bits")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    ran = stranger(STRANGER, str(tmp_path / "model"), str(tmp_path / "out.pt"), folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    ids, seen, *_ = torch.load(tmp_path / "out.pt")
    assert torch.equal(seen, logits(model, ids))


@pytest.mark.parametrize("bits", QUANTISED)
@pytest.mark.parametrize(
    ("do", "expected"),
    (
        (lambda d: edited(d, lambda c: c["impact_ranks"].update({BLOCK + "self_attn.q_proj": 2})), "has the shape"),
        (lambda d: edited(d, lambda c: c["impact_ranks"].update({"model.tail": 2})), "model.tail"),
        (lambda d: reweighted(d, lambda t: t.__delitem__("model.norm.weight")), "lacks model.norm.weight"),
        (lambda d: reweighted(d, lambda t: t.update({"extra": torch.ones(1)})), "left over extra"),
        (lambda d: truncated(d, -1), "cut short"),
        (
            lambda d: reweighted(
                d, lambda t: [t.pop(name) for name in list(t) if "q_proj.down." in name and not name.endswith("weight")]
            ),
            "layers.0.self_attn.q_proj.down",
        ),
    ),
)
def test_a_damaged_quantised_checkpoint_is_refused(
    bits: str, do: Callable[[Path], None], expected: str, saved: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "quantised"
    quantised(saved, bits).save_pretrained(directory)
    AutoModelForCausalLM.from_pretrained(directory)
    do(directory)
    message = refusal(lambda: AutoModelForCausalLM.from_pretrained(directory))
    assert expected in message
    assert str(directory) in message
