"""The fused modules and the static decoder compute what the model computes, and hold each weight once."""

import shutil
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from impact.compression import parameter_count
from impact.decoding import (
    FusedAttention,
    FusedMLP,
    SharedInput,
    fuse_for_decoding,
    is_factorised,
    separate_after_decoding,
)
from impact.factorisation import FactorisedLinear
from impact.static_decoder import StaticDecoder

pytestmark = pytest.mark.architectures("llama", "gqa", "qwen2", "qwen3")
VOCABULARY = 61
MIXED = ("q_proj", "v_proj", "up_proj", "o_proj", "lm_head")  # k, gate and down stay dense


def factorise(model: nn.Module, names: tuple[str, ...] | None = None) -> nn.Module:
    """Random factors of a rank that differs from layer to layer, in all Linears or those with these last names."""
    generator = torch.Generator().manual_seed(3)
    linears = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    for i, (name, linear) in enumerate(linears):
        if names is not None and name.rpartition(".")[2] not in names:
            continue
        m, n = linear.weight.shape
        r = 6 + i % 5
        factors = [
            scale * torch.randn(size, generator=generator, dtype=torch.float64).to(linear.weight.dtype)
            for scale, size in ((0.4, (r, n)), (0.4, (m, r)), (0.05, (m,)))
        ]
        model.set_submodule(name, FactorisedLinear.from_factors(*factors), strict=True)
    return model.eval()


@pytest.fixture(params=[None, MIXED], ids=["all factorised", "mixed"])
def compressed(request: pytest.FixtureRequest, tiny_model: Any) -> Any:
    """Llama, GQA, Qwen2 and Qwen3 in float64, with every layer factorised and with dense ones among them."""
    return factorise(deepcopy(tiny_model), request.param)


def prompts(rows: int = 3, length: int = 7) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(5))


def plain_greedy(model: Any, ids: torch.Tensor, new_tokens: int) -> torch.Tensor:
    """Without any cache: the whole sequence anew for every token."""
    for _ in range(new_tokens):
        ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(dim=-1)], dim=1)
    return ids[:, -new_tokens:]


@torch.no_grad()
def test_fused_logits_are_the_models(compressed: Any) -> None:
    before = compressed(input_ids=prompts()).logits
    assert fuse_for_decoding(compressed) == 2 * compressed.config.num_hidden_layers
    torch.testing.assert_close(compressed(input_ids=prompts()).logits, before, rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(("fused", "attention"), [(True, "sdpa"), (False, "sdpa"), (True, "eager")])
def test_greedy_tokens_in_float32_are_those_of_the_unfused_model_without_a_cache(
    compressed: Any, fused: bool, attention: str
) -> None:
    model = compressed.float()
    model.set_attn_implementation(attention)
    expected = plain_greedy(model, prompts(), 12)
    assert len(expected.unique()) > 5  # a model that repeats itself would show nothing
    if fused:
        fuse_for_decoding(model)
    assert torch.equal(StaticDecoder(model, 3, 19).generate(prompts(), 12), expected)


@torch.no_grad()
def test_the_step_that_a_gpu_records_gives_the_same_tokens(compressed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = compressed.float()
    expected = plain_greedy(model, prompts(), 12)
    fuse_for_decoding(model)
    decoder = StaticDecoder(model, 3, 40)  # most of the cache stays empty
    monkeypatch.setattr(decoder, "_logits_at_this_length", decoder._logits_at_any_length)
    assert torch.equal(decoder.generate(prompts(), 12), expected)


@torch.no_grad()
def test_a_fused_model_still_works_in_generate(compressed: Any) -> None:
    model = compressed.float()
    expected = plain_greedy(model, prompts(), 6)
    fuse_for_decoding(model)
    model.generation_config.eos_token_id = None
    answers = model.generate(prompts(), attention_mask=torch.ones_like(prompts()), max_new_tokens=6, do_sample=False)
    assert torch.equal(answers[:, 7:], expected)


@torch.no_grad()
def test_left_padding_changes_nothing_and_a_decoder_starts_anew(compressed: Any) -> None:
    model = compressed.float()
    fuse_for_decoding(model)
    decoder = StaticDecoder(model, 3, 30)
    ids, mask = prompts(), torch.ones_like(prompts())
    mask[0, :4] = mask[2, :1] = 0
    padded = decoder.generate(ids, 12, mask)
    for row, start in enumerate((4, 0, 1)):
        assert torch.equal(padded[row : row + 1], plain_greedy(model, ids[row : row + 1, start:], 12))
    assert torch.equal(decoder.generate(ids, 12), plain_greedy(model, ids, 12))  # nothing left of the padding
    with pytest.raises(ValueError, match="right"):
        decoder.prefill(ids, mask.flip(1))


def storages(model: nn.Module) -> int:
    """Bytes of all tensors of a model, each storage once: of parameters, buffers, and anything a module holds aside."""
    found: dict[int, int] = {}

    def visit(module: nn.Module) -> None:
        for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            if not tensor.is_meta:
                found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        for aside in module.__dict__.values():
            for item in aside if isinstance(aside, tuple | list) else ():
                if isinstance(item, nn.Module):
                    visit(item)
        for child in module.children():
            visit(child)

    visit(model)
    return sum(found.values())


def test_every_weight_is_held_once_fused_and_separated(compressed: Any) -> None:
    size, parameters, state = storages(compressed), parameter_count(compressed), deepcopy(compressed.state_dict())
    fuse_for_decoding(compressed)
    assert storages(compressed) == size
    assert parameter_count(compressed) == parameters
    fused = [m for m in compressed.modules() if isinstance(m, FusedAttention | FusedMLP)]
    # on a CPU a second factor streams well by columns only
    seconds = [m.up.weight for m in compressed.modules() if is_factorised(m)]
    shared = [rest for m in compressed.modules() if isinstance(m, SharedInput) for rest in m.rest]
    seconds += [rest.weight for rest in shared if isinstance(rest, nn.Linear)]
    assert len(seconds) > len(fused) and all(weight.stride() == (1, len(weight)) for weight in seconds)
    assert separate_after_decoding(compressed) == len(fused) > 0
    assert all(parameter.is_contiguous() for parameter in compressed.parameters())
    assert storages(compressed) == size
    after = compressed.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[name], state[name]) for name in state)
    attention = compressed.model.layers[0].self_attn
    firsts = [layer.down if is_factorised(layer) else layer for layer in (attention.q_proj, attention.k_proj)]
    assert len({first.weight.untyped_storage().data_ptr() for first in firsts}) == 1  # views of one tensor


@torch.no_grad()
def test_a_change_of_dtype_or_value_after_fusing_reaches_the_one_copy(compressed: Any) -> None:
    fuse_for_decoding(compressed.float())
    compressed.double()
    copied = deepcopy(compressed)
    for parameter in copied.parameters():
        parameter.mul_(1.25)
    expected = copied(input_ids=prompts()).logits
    separate_after_decoding(copied)
    assert {p.dtype for p in copied.parameters()} == {torch.float64}
    torch.testing.assert_close(copied(input_ids=prompts()).logits, expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_mistral_and_its_window() -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=6, initializer_range=0.4,
    )  # fmt: skip
    model = factorise(MistralForCausalLM(config).double(), MIXED)
    before = model(input_ids=prompts(2, 15)).logits
    assert fuse_for_decoding(model) == 4
    torch.testing.assert_close(model(input_ids=prompts(2, 15)).logits, before, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="last 6 tokens"):
        StaticDecoder(model, 1, 20)
    model = model.float()
    assert torch.equal(StaticDecoder(model, 2, 6).generate(prompts(2, 3), 3), plain_greedy(model, prompts(2, 3), 3))


def test_a_dense_model_has_nothing_to_fuse_and_an_unknown_one_is_refused(build_model: Callable[..., Any]) -> None:
    dense = build_model("llama")
    assert fuse_for_decoding(dense) == 0
    assert separate_after_decoding(dense) == 0

    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj = FactorisedLinear(4, 2, 4)
            self.k_proj, self.v_proj, self.o_proj = (nn.Linear(4, 4) for _ in range(3))

    model = factorise(dense)
    model.model.layers[1].self_attn = Other()
    names = list(model.state_dict())
    with pytest.raises(ValueError, match=r"layers\.1\.self_attn is a Other"):
        fuse_for_decoding(model)
    assert list(model.state_dict()) == names  # nothing was changed


def test_a_decoder_refuses_what_does_not_fit() -> None:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=8, use_sliding_window=False,
    )  # fmt: skip
    decoder = StaticDecoder(Qwen2ForCausalLM(config).eval(), 2, 9)  # a window that isn't used is none
    with pytest.raises(ValueError, match="2 rows of at most 9"):
        decoder.prefill(prompts(3, 4))
    with pytest.raises(ValueError, match="2 rows of at most 9"):
        decoder.prefill(prompts(2, 9))
    with pytest.raises(ValueError, match="full"):
        decoder.generate(prompts(2, 7), 4)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="needs a model on a GPU"):
            StaticDecoder(decoder.model, 1, 9, "cuda_graph")


@pytest.mark.parametrize(("architecture", "refused"), (("gemma3", r"a Gemma3\w+: only .* and Qwen3"), ("phi3", None)))
def test_architectures_of_other_forward_passes_are_refused_and_left_alone(
    architecture: str, refused: str | None, build_model: Callable[..., Any]
) -> None:
    model = factorise(build_model(architecture))
    before = dict(model.named_modules())
    if refused is None:  # one Linear makes q, k and v: it reads its input once already
        assert fuse_for_decoding(model) == 0
    else:
        with pytest.raises(ValueError, match=refused):
            fuse_for_decoding(model)
    assert dict(model.named_modules()) == before
    with pytest.raises(ValueError, match="can't be decoded here: only Llama, Mistral, Qwen2 and Qwen3 can"):
        StaticDecoder(model, 1, 9)


def test_other_models_are_refused() -> None:
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2)
    with pytest.raises(ValueError, match="GPT2LMHeadModel can't be decoded here"):
        StaticDecoder(GPT2LMHeadModel(config), 1, 9)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
    )  # fmt: skip
    with pytest.raises(ValueError, match="'dynamic' change with the length"):
        StaticDecoder(Qwen2ForCausalLM(config), 1, 9)


@torch.no_grad()
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler, which torch.compile needs on a CPU")
def test_a_step_is_compiled_however_many_decoders_came_before(build_model: Callable[..., Any]) -> None:
    ids = prompts()
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for fused in (False, True):
            model: Any = factorise(build_model("gqa"), MIXED).float()
            expected = plain_greedy(model, ids, 6)
            if fused:
                fuse_for_decoding(model)
            assert torch.equal(StaticDecoder(model, 3, 13, "compile").generate(ids, 6), expected)


@torch.no_grad()
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("replay", ["cuda_graph", "compile"])
def test_recorded_steps_give_the_same_tokens(build_model: Callable[..., Any], replay: Any) -> None:
    model: Any = factorise(build_model("gqa"), MIXED).float().cuda()
    ids = prompts().cuda()
    expected = plain_greedy(model, ids, 20)
    fuse_for_decoding(model)
    decoder = StaticDecoder(model, 3, 27, replay)
    assert torch.equal(decoder.generate(ids, 20), expected)
    assert torch.equal(decoder.generate(ids, 20), expected)  # and once more, from the recording
