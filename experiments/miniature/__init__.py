"""The `tiny` preset's own world: generated problems, a word-level tokenizer and a one-million-parameter Llama."""
