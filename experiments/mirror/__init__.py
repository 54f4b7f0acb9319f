"""What Weights & Biases is shown of a run."""
