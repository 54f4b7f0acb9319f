"""The streamed pass against the one of the whole model, and what it must leave as it was."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn

from impact.calibration import STATISTICS, Batch, calibrate
from impact.streaming_calibration import StreamedPass, calibrate_streaming

HOST = torch.device("cpu")


def split(batch: Batch, size: int) -> list[Batch]:
    columns = (batch.input_ids, batch.attention_mask, batch.labels)
    return [Batch(*(c[i : i + size] for c in columns)) for i in range(0, len(batch.input_ids), size)]


def merged(parts: Iterable[Any]) -> dict[str, dict[str, Any]]:
    whole: dict[str, dict[str, Any]] = {}
    for part in parts:
        for statistic, modules in part.items():
            assert not whole.get(statistic, {}).keys() & modules.keys()
            whole.setdefault(statistic, {}).update(modules)
    return whole


def assert_same(left: Any, right: Any) -> None:
    assert left.keys() == right.keys()
    for statistic, modules in left.items():
        assert modules.keys() == right[statistic].keys()
        for name, tensors in modules.items():
            assert tensors.keys() == right[statistic][name].keys()
            for key, tensor in tensors.items():
                atol = 1e-10 * float(tensor.abs().max())
                torch.testing.assert_close(
                    right[statistic][name][key], tensor, rtol=1e-10, atol=atol, msg=f"{name} {key}"
                )


@pytest.mark.architectures
@pytest.mark.parametrize("window", (None, 1, 2))
def test_it_gathers_what_the_whole_pass_gathers(tiny_model: Any, batch: Batch, window: int | None) -> None:
    """Padded batches of different lengths, float64; with biases, grouped heads and shared inputs."""
    batches = split(batch, 3)
    expected = calibrate(tiny_model, batches, STATISTICS)
    assert_same(expected, merged(calibrate_streaming(tiny_model, batches, STATISTICS, HOST, window)))


@pytest.mark.parametrize("name", STATISTICS)
def test_each_statistic_alone(build_model: Callable[..., Any], batch: Batch, name: str) -> None:
    model = build_model("gqa")
    expected = calibrate(model, [batch], [name])
    assert_same(expected, merged(calibrate_streaming(model, [batch], [name], HOST)))


@pytest.mark.parametrize(("names", "runs"), [(["activation_covariance"], 1), (["squared_gradient"], 2)])
def test_blocks_run_again_only_for_gradients(
    build_model: Callable[..., Any], batch: Batch, names: list[str], runs: int
) -> None:
    model, seen = build_model("llama"), []
    handle = model.model.layers[1].mlp.register_forward_hook(lambda *args: seen.append(1))
    merged(calibrate_streaming(model, split(batch, 2), names, HOST))
    handle.remove()
    assert len(seen) == 4 * runs + 1  # once to see which Linears share an input


def test_a_block_is_finished_before_the_next(tiny_model: Any, batch: Batch) -> None:
    """Each piece is of one block, in the model's order, and lm_head comes last."""
    places = [
        {name.split(".")[2] if "layers" in name else name for modules in part.values() for name in modules}
        for part in calibrate_streaming(tiny_model, [batch], STATISTICS, HOST)
    ]
    assert places == [{"0"}, {"1"}, {"lm_head"}]


def test_layers_on_one_input_share_its_moment(tiny_model: Any, batch: Batch) -> None:
    found = merged(calibrate_streaming(tiny_model, [batch], ["activation_covariance"], HOST))["activation_covariance"]
    q, k, up, gate = (
        found[f"model.layers.1.{name}"]["input_covariance"]
        for name in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj", "mlp.gate_proj")
    )
    assert q is k and up is gate and q is not up


def test_the_model_is_left_as_it_was(build_model: Callable[..., Any], batch: Batch) -> None:
    model = build_model("qwen2", tied=True)
    model.model.norm.weight.requires_grad_(False)
    before = {name: (p, p.data_ptr(), p.clone(), p.requires_grad) for name, p in model.named_parameters()}
    merged(calibrate_streaming(model, [batch], STATISTICS, HOST))
    for name, parameter in model.named_parameters():
        same, place, value, trainable = before[name]
        assert parameter is same and parameter.data_ptr() == place and torch.equal(parameter, value)
        assert parameter.requires_grad == trainable and parameter.grad is None
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and "forward" not in vars(module)


def test_a_forward_of_the_models_own_survives(build_model: Callable[..., Any], batch: Batch) -> None:
    """Libraries that wrap a module put a forward on the instance."""
    model = build_model("llama")
    block = model.model.layers[0]
    wrapped = block.forward
    block.forward = lambda *args, **kwargs: wrapped(*args, **kwargs)
    own = block.forward
    expected = calibrate(model, [batch], ["squared_gradient"])
    assert_same(expected, merged(calibrate_streaming(model, [batch], ["squared_gradient"], HOST)))
    assert vars(block)["forward"] is own


def test_what_cannot_be_streamed_is_refused(tiny_model: Any, batch: Batch) -> None:
    with pytest.raises(ValueError, match="empty"):
        next(calibrate_streaming(tiny_model, [], STATISTICS, HOST))
    with pytest.raises(KeyError, match="curvature"):
        next(calibrate_streaming(tiny_model, [batch], ["curvature"], HOST))
    with pytest.raises(ValueError, match="list of decoder blocks"):
        StreamedPass(nn.Sequential(nn.Linear(2, 2)), STATISTICS, HOST)

    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return x, None

    with pytest.raises(ValueError, match="Pair hands on more than a hidden state"):
        StreamedPass(tiny_model, STATISTICS, HOST).forward(Pair(), torch.ones(1), {})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_holds_a_block_at_a_time() -> None:
    """A model whose weights alone are more than what is allocated at the peak; the same numbers as on the host."""
    from evals.speed.random_weights import ModelShape, random_weights_model

    model = random_weights_model(ModelShape(512, 512, 1408, 24, 8, 8), None, torch.float32)
    ids = torch.randint(0, 512, (4, 64), generator=torch.Generator().manual_seed(0))
    batches = split(Batch(ids, torch.ones_like(ids), ids), 2)
    names = ["activation_covariance", "squared_gradient"]
    expected = calibrate(model, batches, names)
    torch.cuda.reset_peak_memory_stats()
    streamed = merged(calibrate_streaming(model, batches, names, torch.device("cuda")))
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert torch.cuda.max_memory_allocated() < weights / 2
    for statistic, modules in expected.items():
        for name, tensors in modules.items():
            for key, tensor in tensors.items():
                found = streamed[statistic][name][key]
                assert found.device.type == "cpu"
                torch.testing.assert_close(found, tensor, rtol=1e-2, atol=1e-3 * float(tensor.abs().max()))
