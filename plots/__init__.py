"""One function a figure of the paper, drawn from measured tables."""
