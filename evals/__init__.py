"""How well a model does what it was trained for: generation through lm-eval, judging, and held-out perplexity."""
