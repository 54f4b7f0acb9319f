"""The architectures that have a compressed form: the one list of them, which names no class and so imports no torch.

Whatever depends on an architecture follows from an entry here and from the classes that transformers has under its
names. impact.modeling_impact makes the compressed classes from those and holds no list: a copy of it lies in every
checkpoint.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """A causal language model of transformers.

    model_type: that of the dense model. name: what transformers' names of its causal model, attention, MLP and decoder
    layer begin with. decoded: whether impact.decoding and impact.static_decoder stand for its forward passes.
    """

    model_type: str
    name: str
    decoded: bool = False

    @property
    def compressed_type(self) -> str:
        """The model type of its compressed form."""
        return f"impact_{self.model_type}"

    @property
    def compressed_class(self) -> str:
        """The name of the causal model of its compressed form."""
        return f"Impact{self.name}ForCausalLM"


_KNOWN = (
    Architecture("llama", "Llama", decoded=True),
    Architecture("mistral", "Mistral", decoded=True),
    Architecture("qwen2", "Qwen2", decoded=True),
    Architecture("qwen3", "Qwen3", decoded=True),
    Architecture("gemma3_text", "Gemma3"),
    Architecture("phi3", "Phi3"),
)
ARCHITECTURES = {architecture.model_type: architecture for architecture in _KNOWN}
"""By the model type of the dense model."""
