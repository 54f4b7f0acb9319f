"""Checkpoints: nothing is lost on the way to disk and back, and a damaged one is refused in one line."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from baselines.svd import Svd
from impact.checkpoint import RANKS_FILE, WEIGHTS_FILE, load_model, save_model
from impact.compression import compress, parameter_count, untie_embeddings


def logits(model: Any, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[batch.attention_mask.bool()]


def compressed(model: Any, full_rank: Any) -> Any:
    model = copy.deepcopy(model)
    components = full_rank(Svd(), model, {})
    compress(model, Svd(), components, {name: 3 + i % 3 for i, name in enumerate(components)}, {})
    return model


def refusal(directory: Path) -> str:
    with pytest.raises(ValueError) as refused:
        load_model(directory)
    message = str(refused.value)
    assert str(directory) in message
    assert "\n" not in message
    return message


@pytest.fixture
def saved(build_model: Callable[..., Any], full_rank: Any, tmp_path: Path) -> Path:
    save_model(compressed(build_model("gqa"), full_rank), tmp_path)
    return tmp_path


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16))
def test_a_compressed_model_comes_back_bit_for_bit(
    tiny_model: Any, batch: Any, full_rank: Any, tmp_path: Path, dtype: torch.dtype
) -> None:
    model = compressed(tiny_model, full_rank).to(dtype)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path, dtype)
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    if dtype != torch.bfloat16:  # .to(bfloat16) rounds the rotary frequencies as well, which loading does not
        assert torch.equal(logits(loaded, batch), logits(model, batch))
    assert parameter_count(loaded) == parameter_count(model)
    assert not loaded.training


@pytest.mark.architectures
def test_a_dense_model_comes_back_bit_for_bit(tiny_model: Any, batch: Any, tmp_path: Path) -> None:
    save_model(tiny_model, tmp_path)
    assert torch.equal(logits(load_model(tmp_path, torch.float64), batch), logits(tiny_model, batch))


def test_a_tied_model_stays_tied(build_model: Callable[..., Any], batch: Any, tmp_path: Path) -> None:
    model = build_model("qwen2", tied=True)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path, torch.float64)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert parameter_count(loaded) == parameter_count(model)
    assert torch.equal(logits(loaded, batch), logits(model, batch))


@pytest.mark.parametrize("untie_first", (True, False))
def test_a_tied_model_can_be_compressed(
    build_model: Callable[..., Any], batch: Any, full_rank: Any, tmp_path: Path, untie_first: bool
) -> None:
    model = build_model("qwen2", tied=True)
    if untie_first:
        before = logits(model, batch)
        assert untie_embeddings(model)
        assert torch.equal(logits(model, batch), before)
    embedding = model.model.embed_tokens.weight.clone()
    model = compressed(model, full_rank)
    assert torch.equal(model.model.embed_tokens.weight, embedding)
    save_model(model, tmp_path)
    assert torch.equal(logits(load_model(tmp_path, torch.float64), batch), logits(model, batch))


def test_a_dense_model_over_a_compressed_one(build_model: Callable[..., Any], batch: Any, saved: Path) -> None:
    model = build_model("gqa")
    save_model(model, saved)
    assert torch.equal(logits(load_model(saved, torch.float64), batch), logits(model, batch))


def test_ranks_are_written_beside_the_weights(saved: Path) -> None:
    ranks = json.loads((saved / RANKS_FILE).read_text())["factorised"]
    assert len(ranks) == 15
    assert ranks["lm_head"] == 3 + 14 % 3


@pytest.mark.parametrize("kept", (0, 7, 200, 4000, -1))
def test_truncated_weights_are_refused(saved: Path, kept: int) -> None:
    weights = saved / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:kept])
    assert "can't be read" in refusal(saved)


@pytest.mark.parametrize("missing", (WEIGHTS_FILE, "config.json"))
def test_a_missing_file_is_refused(saved: Path, missing: str) -> None:
    (saved / missing).unlink()
    assert missing in refusal(saved)


def test_missing_ranks_are_refused(saved: Path) -> None:
    (saved / RANKS_FILE).unlink()
    assert "doesn't fit" in refusal(saved)


def test_a_damaged_ranks_file_is_refused(saved: Path) -> None:
    (saved / RANKS_FILE).write_text('{"factorised": {"lm_head"')
    assert "can't be read" in refusal(saved)


@pytest.mark.parametrize(
    ("module", "rank"), (("lm_head", 2), ("lm_head", "two"), ("lm_head", -1), ("model.tail", 2), ("model.norm", 2))
)
def test_ranks_that_do_not_fit_are_refused(saved: Path, module: str, rank: Any) -> None:
    ranks = json.loads((saved / RANKS_FILE).read_text())
    ranks["factorised"][module] = rank
    (saved / RANKS_FILE).write_text(json.dumps(ranks))
    message = refusal(saved)
    assert "doesn't fit" in message
    assert re.search(r"lm_head|tail|norm|int|negative|in_features", message), message


def test_a_tied_checkpoint_without_its_embedding_is_refused(build_model: Callable[..., Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_model(build_model("qwen2", tied=True), tmp_path)
    state = load_file(tmp_path / WEIGHTS_FILE)
    del state["model.embed_tokens.weight"]
    save_file(state, tmp_path / WEIGHTS_FILE)
    assert "embed_tokens" in refusal(tmp_path)
