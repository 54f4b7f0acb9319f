"""Sensitivities from one backward pass."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from baselines.asvd import Asvd
from baselines.gradient_sensitivity import loss_changes
from experiments.stages.models import batches
from experiments.stages.search import SearchPerplexity
from impact.rank_rule import RankRule

CANDIDATES = (0.2, 0.5, 0.8)


class Losses:
    """A perplexity over two batches, and the losses behind it."""

    def __init__(self, batch: Any) -> None:
        self.batches = [
            (batch.input_ids[rows], batch.attention_mask[rows], batch.labels[rows]) for rows in (slice(5), slice(5, 8))
        ]

    def losses(self, model: Any) -> Iterator[tuple[torch.Tensor, int]]:
        for ids, mask, labels in self.batches:
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].flatten(0, 1)
            targets = labels[:, 1:].flatten()
            yield torch.nn.functional.cross_entropy(logits, targets, reduction="sum"), int((targets >= 0).sum())

    @torch.no_grad()
    def __call__(self, model: Any) -> float:
        pairs = list(self.losses(model))
        return math.exp(sum(float(loss) for loss, _ in pairs) / sum(count for _, count in pairs))


def test_both_terms_are_those_of_autograd(tiny_model: Any, gathered: Any, batch: Any, full_rank: Any) -> None:
    """<dL/dW, W_r - W> from weight gradients, and the squares from each position's g (W_r - W) x."""
    method, source = Asvd(candidates=CANDIDATES), Losses(batch)
    components = full_rank(method, tiny_model, gathered)
    loss, changes = loss_changes(tiny_model, components, method.candidate_ranks, source.losses)
    assert math.exp(loss) == pytest.approx(source(tiny_model), rel=1e-12)
    assert all(parameter.grad is None for parameter in tiny_model.parameters())

    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in components}

    def remember(name: str, x: torch.Tensor, y: torch.Tensor) -> None:
        y.retain_grad()
        seen[name].append((x.detach(), y))

    handles = [
        tiny_model.get_submodule(name).register_forward_hook(lambda _, a, y, name=name: remember(name, a[0], y))
        for name in components
    ]
    tokens = 0
    for part, count in source.losses(tiny_model):
        part.backward()
        tokens += count
    for handle in handles:
        handle.remove()
    for name, component in components.items():
        weight = tiny_model.get_submodule(name).weight
        for rank, change in zip(method.candidate_ranks(component), changes[name], strict=True):
            D = component.tensors["up"][:, :rank] @ component.tensors["down"][:rank] - weight
            first = (weight.grad * D).sum()
            second = sum(((x @ D.T) * y.grad).sum(dim=-1).square().sum() for x, y in seen[name])
            assert change == pytest.approx(float((first + second / 2).detach() / tokens), rel=1e-7, abs=1e-9)
    tiny_model.zero_grad(set_to_none=True)


def test_the_search_runs_on_estimates(tiny_model: Any, gathered: Any, batch: Any, full_rank: Any) -> None:
    method, source = Asvd(candidates=CANDIDATES, sensitivity="gradient"), Losses(batch)
    components = full_rank(method, tiny_model, gathered)
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    sensitivity = method.score(tiny_model, components, source)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_model.state_dict().items())
    assert {tuple(row) for row in sensitivity.values()} == {CANDIDATES}
    kept = method.allocate(RankRule("parameter_ratio", 0.5), components, sensitivity)
    assert kept.keys() == components.keys()


def test_frozen_weights_do_not_matter(tiny_model: Any, gathered: Any, batch: Any, full_rank: Any) -> None:
    method, source = Asvd(candidates=CANDIDATES, sensitivity="gradient"), Losses(batch)
    components = full_rank(method, tiny_model, gathered)
    trained = method.score(tiny_model, components, source)
    tiny_model.requires_grad_(False)
    try:
        assert method.score(tiny_model, components, source) == trained
    finally:
        tiny_model.requires_grad_(True)


def test_a_perplexity_without_losses_is_refused(tiny_model: Any, gathered: Any, full_rank: Any) -> None:
    method = Asvd(sensitivity="gradient")
    with pytest.raises(ValueError, match="losses"):
        method.score(tiny_model, full_rank(method, tiny_model, gathered), lambda model: 1.0)


class Characters:
    """A tokenizer whose tokens are characters."""

    eos_token = "."

    def __call__(self, text: str, max_length: int | None = None, **_: bool) -> dict[str, list[int]]:
        return {"input_ids": [ord(character) % 61 for character in text][:max_length]}


def test_the_stages_losses_are_those_of_its_perplexity(build_model: Any) -> None:
    rows = [{"query": "2+2?", "response": "The answer is: 4"}, {"query": "1?", "response": "1"}]
    rows.append({"query": "a longer question", "response": "and its answer"})
    seen: list[tuple[int, int]] = []
    tokenizer: Any = Characters()
    made = batches(tokenizer, rows, 2, 256)
    perplexity, model = SearchPerplexity(made, 1, lambda done, of: seen.append((done, of))), build_model("llama")
    pairs = [(loss.item(), count) for loss, count in perplexity.losses(model)]
    mean = sum(loss for loss, _ in pairs) / sum(count for _, count in pairs)
    assert perplexity(model) == pytest.approx(math.exp(mean), rel=1e-5)
    perplexity(model)
    assert seen == [(1, 1), (1, 1)]
