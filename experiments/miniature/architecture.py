"""The Llama that the `tiny` preset trains from scratch."""

from transformers import LlamaConfig


def tiny_llama_config(
    vocab_size: int,
    *,
    hidden_size: int = 128,
    intermediate_size: int = 384,
    num_hidden_layers: int = 4,
    num_attention_heads: int = 4,
    max_position_embeddings: int = 512,
    bos_token_id: int = 0,
    eos_token_id: int = 1,
    pad_token_id: int = 2,
) -> LlamaConfig:
    """A Llama of about one million parameters; the token ids are those of `build_tokenizer`."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_attention_heads,
        max_position_embeddings=max_position_embeddings,
        # tied embeddings would have to be untied before lm_head can be compressed
        tie_word_embeddings=False,
        # 1/sqrt(hidden_size); Llama's 0.02 is meant for wide models and trains this one markedly slower
        initializer_range=hidden_size**-0.5,
        bos_token_id=bos_token_id,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
        # scaled-dot-product attention halves the training speed on a CPU at this size
        attn_implementation="eager",
    )
