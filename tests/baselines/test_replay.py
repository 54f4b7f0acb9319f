"""The fast search decides as the straightforward one does, and computes only what a truncation changes."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from baselines import naive_search
from baselines.asvd import Asvd
from baselines.replay import Replay
from impact.rank_rule import RankRule

Evaluate = Callable[[Any], float]


def evaluation(batch: Any, use_cache: bool = False) -> Evaluate:
    """Perplexity over three batches of unlike shapes."""

    @torch.inference_mode()
    def evaluate(model: Any) -> float:
        total, tokens = 0.0, 0
        for rows, length in ((slice(0, 3), 24), (slice(3, 6), 24), (slice(6, 8), 21)):
            ids, mask, labels = (t[rows, :length] for t in (batch.input_ids, batch.attention_mask, batch.labels))
            logits = model(input_ids=ids, attention_mask=mask, use_cache=use_cache).logits[:, :-1].flatten(0, 1)
            total += float(nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum"))
            tokens += int((labels[:, 1:] >= 0).sum())
        return math.exp(total / tokens)

    return evaluate


@pytest.mark.parametrize(("attention", "use_cache"), (("sdpa", False), ("sdpa", True), ("eager", False)))
def test_decisions_are_those_of_the_straightforward_search(
    tiny_model: Any, gathered: Any, batch: Any, full_rank: Any, attention: str, use_cache: bool
) -> None:
    assert_the_same_decisions(tiny_model, gathered, batch, full_rank, attention, use_cache)


@pytest.mark.architectures("qwen3", "gemma3", "phi3")
def test_they_are_on_other_architectures_too(tiny_model: Any, gathered: Any, batch: Any, full_rank: Any) -> None:
    assert_the_same_decisions(tiny_model, gathered, batch, full_rank, "sdpa", use_cache=True)


def assert_the_same_decisions(
    tiny_model: Any, gathered: Any, batch: Any, full_rank: Any, attention: str, use_cache: bool
) -> None:
    method, before = Asvd(candidates=(0.15, 0.4, 0.6, 0.9)), tiny_model.config._attn_implementation
    components, evaluate = full_rank(method, tiny_model, gathered), evaluation(batch, use_cache)
    tiny_model.set_attn_implementation(attention)
    try:
        straightforward = naive_search.score(method, tiny_model, gathered, evaluate)
        replayed = method.score(tiny_model, components, evaluate)
    finally:
        tiny_model.set_attn_implementation(before)
    assert list(replayed) == list(straightforward)
    for name, row in straightforward.items():
        assert replayed[name] == pytest.approx(row, rel=1e-12)
    for target in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        rule = RankRule("parameter_ratio", target)
        assert method.allocate(rule, components, replayed) == method.allocate(rule, components, straightforward)


@pytest.mark.parametrize(
    ("replaced", "computed"),
    (
        ("layers.0.self_attn.k_proj", "0.k 0.o 0.gate 0.up 0.down 1.q 1.k 1.v 1.o 1.gate 1.up 1.down lm"),
        ("layers.1.self_attn.o_proj", "1.o 1.gate 1.up 1.down lm"),
        ("layers.1.mlp.up_proj", "1.up 1.down lm"),
        ("layers.1.mlp.down_proj", "1.down lm"),
    ),
)
def test_only_what_depends_on_the_replaced_linear_is_computed(
    tiny_model: Any, batch: Any, replaced: str, computed: str
) -> None:
    replay = Replay(tiny_model, evaluation(batch))
    linear = tiny_model.get_submodule(f"model.{replaced}")
    replay.replaced(f"model.{replaced}", linear)
    ran: list[str] = []

    def note(name: str, module: nn.Module) -> None:
        if "forward" not in vars(module):  # or it handed on what was cached
            block, leaf = name.split(".")[-3], name.split(".")[-1].removesuffix("_proj").removesuffix("_head")
            ran.append(f"{block}.{leaf}")

    handles = [
        module.register_forward_hook(lambda m, args, y, name=f"..{name}": note(name, m))
        for name, module in tiny_model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    assert replay.replaced(f"model.{replaced}", linear) == replay.dense
    for handle in handles:
        handle.remove()
    assert " ".join(ran).replace(".lm", "lm") == " ".join([computed] * 3)
    assert not any("forward" in vars(module) for module in tiny_model.modules())


def test_linears_may_come_in_any_order(tiny_model: Any, batch: Any) -> None:
    replay = Replay(tiny_model, evaluation(batch))
    names = [name for name, module in tiny_model.named_modules() if isinstance(module, nn.Linear)]
    for name in (*names[::-1], *names[::5]):
        assert replay.replaced(name, tiny_model.get_submodule(name)) == replay.dense


def test_a_batch_that_differs_from_call_to_call_is_refused(tiny_model: Any, batch: Any) -> None:
    calls = 0

    def evaluate(model: Any) -> float:
        nonlocal calls
        calls += 1
        return float(model(input_ids=batch.input_ids[calls % 2 :]).logits.mean())

    replay = Replay(tiny_model, evaluate)
    with pytest.raises(RuntimeError, match="same batches"):
        replay.replaced("lm_head", tiny_model.lm_head)


def test_a_forward_that_was_set_on_the_instance_returns(tiny_model: Any, batch: Any) -> None:
    block = tiny_model.model.layers[0]
    plain = type(block).forward

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return plain(block, *args, **kwargs)

    block.forward = wrapped
    try:
        Replay(tiny_model, evaluation(batch)).replaced("lm_head", tiny_model.lm_head)
        Replay(tiny_model, evaluation(batch)).replaced(
            "model.layers.1.mlp.down_proj", tiny_model.model.layers[1].mlp.down_proj
        )
        assert block.forward is wrapped
    finally:
        del block.forward


class Skipping(nn.Module):
    """The last block reads the output of the first one, not only that of the one before it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.blocks[0](x)
        return self.blocks[3](self.blocks[2](self.blocks[1](first)) + first)


def test_blocks_that_hand_on_more_than_a_hidden_state_are_refused() -> None:
    model, x = Skipping(), torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    replay = Replay(model, lambda m: float(m(x).square().mean()))
    with pytest.raises(RuntimeError, match="more than a hidden state"):
        for i in range(4):
            replay.replaced(f"blocks.{i}", model.blocks[i])
    assert not any("forward" in vars(module) for module in model.modules())
