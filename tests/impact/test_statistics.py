"""The calibration pass against a direct float64 computation, and what must not change its result."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from impact import calibration
from impact.calibration import IGNORED_LABEL, STATISTICS, Batch, calibrate
from impact.importance import transformation_coefficient


def rows(batch: Batch, start: int, stop: int) -> Batch:
    return Batch(*(t[start:stop] for t in (batch.input_ids, batch.attention_mask, batch.labels)))


def padded(batch: Batch, left: int, right: int) -> Batch:
    def pad(tensor: torch.Tensor, value: int) -> torch.Tensor:
        return torch.nn.functional.pad(tensor, (left, right), value=value)

    return Batch(pad(batch.input_ids, 7), pad(batch.attention_mask, 0), pad(batch.labels, IGNORED_LABEL))


def assert_same(left: Any, right: Any, rtol: float = 1e-10) -> None:
    assert left.keys() == right.keys() == set(STATISTICS)
    for statistic, modules in left.items():
        for name, tensors in modules.items():
            for key, tensor in tensors.items():
                scale = float(tensor.abs().max())
                torch.testing.assert_close(
                    right[statistic][name][key], tensor, rtol=rtol, atol=rtol * scale, msg=f"{name} {key}"
                )


@pytest.fixture(scope="module")
def reference(tiny_model: Any, batch: Any) -> Any:
    return calibrate(tiny_model, [batch], STATISTICS)


@pytest.mark.architectures
def test_activation_covariance(tiny_model: Any, reference: Any, raw: Any) -> None:
    sides = set()
    for name, tensors in reference["activation_covariance"].items():
        side = "input" if "input_mean" in tensors else "output"
        sides.add(side)
        values = raw[name].x if side == "input" else raw[name].y
        torch.testing.assert_close(tensors[f"{side}_mean"], values.mean(dim=0), rtol=1e-11, atol=1e-12)
        expected = torch.cov(values.T, correction=0)
        torch.testing.assert_close(tensors[f"{side}_covariance"], expected, rtol=1e-10, atol=1e-12)
    assert sides == {"input", "output"}


@pytest.mark.architectures
def test_squared_gradient(reference: Any, raw: Any) -> None:
    for name, tensors in reference["squared_gradient"].items():
        torch.testing.assert_close(tensors["squared_gradient"], raw[name].g.square().mean(dim=0), rtol=1e-10, atol=0)


@pytest.mark.architectures
def test_input_magnitude(reference: Any, raw: Any) -> None:
    for name, tensors in reference["input_magnitude"].items():
        per_sequence = [x.abs().mean(dim=0) for x in raw[name].x.split(raw[name].lengths)]
        torch.testing.assert_close(tensors["input_magnitude"], sum(per_sequence) / 8, rtol=1e-11, atol=0)


@pytest.mark.architectures
def test_input_variance(reference: Any, raw: Any) -> None:
    for name, tensors in reference["input_variance"].items():
        x = raw[name].x
        torch.testing.assert_close(tensors["channel_mean"], x.mean(dim=0), rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(tensors["channel_variance"], x.var(dim=0, correction=0), rtol=1e-10, atol=1e-12)


@pytest.mark.architectures
def test_weight_fisher_from_weight_gradients(reference: Any, raw: Any) -> None:
    for name, tensors in reference["weight_fisher"].items():
        fisher = sum(G.square().sum(dim=1) for G in raw[name].weight_gradients) / 8
        torch.testing.assert_close(tensors["weight_fisher"], fisher, rtol=1e-9, atol=0)


def test_every_linear_is_covered(tiny_model: Any, reference: Any) -> None:
    linears = {name for name, module in tiny_model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert len(linears) == 15
    assert all(set(modules) == linears for modules in reference.values())


def test_layers_on_one_input_share_its_moment(reference: Any) -> None:
    covariances: dict[int, set[str]] = {}
    for name, tensors in reference["activation_covariance"].items():
        if "input_covariance" in tensors:
            covariances.setdefault(id(tensors["input_covariance"]), set()).add(name.split(".")[-1])
    shared = list(covariances.values())
    assert shared.count({"q_proj", "k_proj", "v_proj"}) == shared.count({"gate_proj", "up_proj"}) == 2


@pytest.mark.parametrize("size", (1, 2, 3, 5))
def test_batch_size_changes_nothing(tiny_model: Any, batch: Any, reference: Any, size: int) -> None:
    parts = [rows(batch, start, start + size) for start in range(0, 8, size)]
    assert_same(reference, calibrate(tiny_model, parts, STATISTICS))


@pytest.mark.parametrize("right", (1, 9))
def test_padding_changes_nothing(tiny_model: Any, batch: Any, reference: Any, right: int) -> None:
    assert_same(reference, calibrate(tiny_model, [padded(batch, 0, right)], STATISTICS))


@pytest.mark.architectures
def test_left_padding_changes_nothing(tiny_model: Any, batch: Any, reference: Any) -> None:
    """But for rotary angles, which transformers computes in float32 at the shifted positions."""
    assert_same(reference, calibrate(tiny_model, [padded(batch, 6, 2)], STATISTICS), rtol=1e-5)


def test_order_of_sequences_changes_nothing(tiny_model: Any, batch: Any, reference: Any) -> None:
    parts = [rows(batch, i, i + 1) for i in (5, 2, 7, 0, 3, 6, 1, 4)]
    assert_same(reference, calibrate(tiny_model, parts, STATISTICS))


def test_scaling_the_loss_leaves_a_unchanged(
    tiny_model: Any, batch: Any, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: the whole backward pass runs on a loss times 2^16, as mixed precision scales it."""
    loss: Callable[..., Any] = calibration.sequence_mean_loss
    monkeypatch.setattr(calibration, "sequence_mean_loss", lambda *args: loss(*args) * 2**16)
    scaled = calibrate(tiny_model, [batch], ["squared_gradient"])["squared_gradient"]
    for name, tensors in reference["squared_gradient"].items():
        g2, scaled_g2 = tensors["squared_gradient"], scaled[name]["squared_gradient"]
        assert torch.equal(scaled_g2, g2 * 2.0**32)
        assert torch.equal(transformation_coefficient(g2, 0.25), transformation_coefficient(scaled_g2, 0.25))


def test_single_precision_is_close(build_model: Callable[..., Any], batch: Any) -> None:
    model = build_model("gqa")
    expected = calibrate(model, [batch], STATISTICS)
    assert_same(expected, calibrate(model.float(), [rows(batch, 0, 3), rows(batch, 3, 8)], STATISTICS), rtol=2e-4)


@pytest.mark.parametrize("offset", (0.0, 1e4))
def test_a_large_mean_costs_no_digits(offset: float) -> None:
    """float32 accumulators, mean 1e4 times the deviation: E[vv^T] - mu mu^T would keep no digit."""
    values = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0)) + offset
    moment = calibration._Moment(values[:1000])
    for part in values.split(1000):
        moment.add(part)
    covariance = moment.finish(4000)[1]
    torch.testing.assert_close(covariance, torch.cov(values.double().T, correction=0), rtol=1e-3, atol=1e-3)
    channels = calibration.InputVariance({"layer": ["layer"]}, {})
    for part in values.split(1000):
        channels.on_input("layer", part[None], None)
    ((_, tensors),) = channels.result(4000, 1)
    torch.testing.assert_close(tensors["channel_variance"], covariance.diag(), rtol=1e-3, atol=1e-3)


def test_the_model_is_left_as_it_was(build_model: Callable[..., Any], batch: Any) -> None:
    model = build_model("qwen2")
    model.model.embed_tokens.weight.requires_grad_(False)
    before = {name: (p.clone(), p.requires_grad) for name, p in model.named_parameters()}
    calibrate(model, [batch], STATISTICS)
    for name, parameter in model.named_parameters():
        value, trainable = before[name]
        assert torch.equal(parameter, value)
        assert parameter.requires_grad == trainable
        assert parameter.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_activations_are_not_kept(tiny_model: Any, batch: Any) -> None:
    outputs: list[weakref.ref[torch.Tensor]] = []
    mlp = tiny_model.model.layers[1].mlp
    handle = mlp.register_forward_hook(lambda _, args, y: outputs.append(weakref.ref(y)))

    def parts() -> Any:
        for i in range(8):
            yield rows(batch, i, i + 1)
            assert not any(output() is not None for output in outputs)

    calibrate(tiny_model, parts(), STATISTICS)
    handle.remove()
    assert len(outputs) >= 8


def test_an_empty_calibration_set_is_refused(tiny_model: Any) -> None:
    with pytest.raises(ValueError, match="empty"):
        calibrate(tiny_model, [], STATISTICS)


def test_an_unknown_statistic_is_refused(tiny_model: Any, batch: Any) -> None:
    with pytest.raises(KeyError, match="curvature"):
        calibrate(tiny_model, [batch], ["curvature"])
