"""What the paper's sentences say, and whether printed and measured numbers bear them out."""
