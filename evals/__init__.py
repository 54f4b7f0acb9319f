"""Evaluation: prompts, answer scoring, generation through lm-eval, rescoring, and held-out perplexity."""
