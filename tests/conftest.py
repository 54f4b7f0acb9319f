"""Tiny models in float64, one padded batch with masked prompts, what a direct computation finds in them, and a small
disk to fill."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The first torch call of an example may take a second on a busy machine.
settings.register_profile("harness", deadline=None, derandomize=True)
settings.load_profile("harness")

# MKL's products may depend on where in memory an operand lies, and safetensors lays weights out otherwise than torch
# does: what a test wants equal bit for bit is a function of the numbers only in MKL's reproducible mode. It is read at
# the first product of a process, and its children inherit it.
os.environ.setdefault("MKL_CBWR", "AUTO")

VOCABULARY = 61
NOT_ISOLATED = "not tested, as programs can't be isolated here"
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"num_key_value_heads": 4}),
    "gqa": ("Llama", {"num_key_value_heads": 2}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2}),
    # heads that together are wider than the hidden state
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 8}),
    "gemma3": (
        "Gemma3",
        {
            "num_key_value_heads": 2,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 7,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "phi3": ("Phi3", {"num_key_value_heads": 2}),
}
"""Name -> what transformers' classes are called, and what sets it apart from the others."""


@pytest.fixture(scope="session")
def isolation() -> None:
    """Skips a test where programs can't be isolated; the run's last line says so. In CI that is an error."""
    from evals.execution.isolation import IsolationError
    from evals.execution.programs import check_isolation

    try:
        check_isolation()
    except IsolationError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{NOT_ISOLATED}: {error}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Says it in the last line, below pytest's own counts, if the tests of isolation were skipped."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = [str(report.longrepr) for report in reporter.stats.get("skipped", ())] if reporter else []
    if count := sum(NOT_ISOLATED in reason for reason in skipped):
        reporter.write_line(f"programs can't be isolated here: tests that were skipped for it: {count}", red=True)


@dataclass
class Raw:
    """Of one Linear, over all real tokens: inputs (N, n), outputs (N, m), dl/dy (N, m), and each sequence's dl/dW."""

    x: Any
    y: Any
    g: Any
    weight_gradients: list[Any]
    lengths: list[int]


@pytest.fixture(scope="session")
def build_model() -> Callable[..., Any]:
    """Name of an architecture -> a new model; the same weights each time."""
    import torch
    import transformers

    def build(architecture: str, tied: bool = False) -> Any:
        name, extra = ARCHITECTURES[architecture]
        causal_lm = getattr(transformers, f"{name}ForCausalLM")
        torch.manual_seed(0)
        model = causal_lm(
            causal_lm.config_class(
                vocab_size=VOCABULARY,
                hidden_size=16,
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
        # Larger than an initialisation, so that biases, norms and the softmax all matter; columns fade at a different
        # rate in each layer, so that ranks differ.
        for i, (name, parameter) in enumerate(model.named_parameters()):
            fade = torch.logspace(0, -(i % 3), parameter.shape[-1]) if parameter.dim() == 2 else 1.0
            mean = (
                float(parameter.data.mean()) if "norm" in name else 0.0
            )  # as it is initialised, to 1 or (Gemma-3) to 0
            parameter.data = parameter.data.double().normal_(mean=mean, std=0.4) * fade
        return model.double().eval()

    return build


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Three architectures for tests of what depends on none, those that the mark `architectures` names for others."""
    if "tiny_model" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("architectures")
        names = ("llama", "gqa", "qwen2") if mark is None else mark.args or tuple(ARCHITECTURES)
        metafunc.parametrize("tiny_model", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def tiny_model(request: pytest.FixtureRequest, build_model: Callable[..., Any]) -> Any:
    """Each architecture in turn; a test that changes the model changes a copy."""
    return build_model(request.param)


@pytest.fixture(scope="session")
def batch() -> Any:
    """8 right-padded sequences with masked prompts: 151 tokens, more than any layer has inputs or outputs."""
    import torch

    from impact.calibration import IGNORED_LABEL, Batch

    generator = torch.Generator().manual_seed(1)
    lengths, prompts = (24, 14, 19, 24, 16, 15, 21, 18), (4, 5, 6, 7, 8, 4, 5, 6)
    ids = torch.randint(0, VOCABULARY, (8, 24), generator=generator)
    mask, labels = torch.ones_like(ids), ids.clone()
    for i, (length, prompt) in enumerate(zip(lengths, prompts, strict=True)):
        mask[i, length:] = 0
        labels[i, length:] = labels[i, :prompt] = IGNORED_LABEL
    return Batch(ids, mask, labels)


@pytest.fixture(scope="session")
def gathered(tiny_model: Any, batch: Any) -> dict[str, Any]:
    """Module name -> all its statistics, from one pass."""
    from impact.calibration import STATISTICS, calibrate

    merged: dict[str, Any] = {}
    for modules in calibrate(tiny_model, [batch], STATISTICS).values():
        for name, tensors in modules.items():
            merged.setdefault(name, {}).update(tensors)
    return merged


@pytest.fixture(scope="session")
def raw(tiny_model: Any, batch: Any) -> dict[str, Raw]:
    """Module name -> raw activations and gradients, one unpadded sequence at a time, by plain autograd."""
    import torch
    from torch import nn

    linears = {name: module for name, module in tiny_model.named_modules() if isinstance(module, nn.Linear)}
    seen: dict[str, tuple[Any, Any]] = {}

    def remember(name: str, x: Any, y: Any) -> None:
        y.retain_grad()
        seen[name] = x.detach(), y

    handles = [
        module.register_forward_hook(lambda _, args, y, name=name: remember(name, args[0], y))
        for name, module in linears.items()
    ]
    pieces: dict[str, list[tuple[Any, Any, Any, Any]]] = {name: [] for name in linears}
    for ids, mask, labels in zip(batch.input_ids, batch.attention_mask, batch.labels, strict=True):
        length = int(mask.sum())
        logits = tiny_model(input_ids=ids[None, :length]).logits[0]
        trained = [t for t in range(1, length) if labels[t] >= 0]
        loss = -sum(logits[t - 1].log_softmax(dim=0)[ids[t]] for t in trained) / len(trained)
        tiny_model.zero_grad()
        loss.backward()
        for name, (x, y) in seen.items():
            pieces[name].append((x[0], y.detach()[0], y.grad[0], linears[name].weight.grad.clone()))
    for handle in handles:
        handle.remove()
    tiny_model.zero_grad()
    return {
        name: Raw(
            *(torch.cat([piece[i] for piece in all_pieces]) for i in range(3)),
            weight_gradients=[piece[3] for piece in all_pieces],
            lengths=[len(piece[0]) for piece in all_pieces],
        )
        for name, all_pieces in pieces.items()
    }


@pytest.fixture(scope="session")
def full_rank() -> Callable[..., Any]:
    """(method, model, statistics) -> components of every unit, by name."""
    from impact.compression import prepare_units

    return lambda method, model, statistics: dict(prepare_units(method, model, statistics))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator["SmallDisk"]:
    """A file system of its own, whose size can be set."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system isn't allowed here")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class SmallDisk:
    """A tmpfs; room is in KB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def leave(self, room: int) -> None:
        status = os.statvfs(self.folder)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize // 1024
        subprocess.run(["mount", "-o", f"remount,size={used + room}k", str(self.folder)], check=True)
