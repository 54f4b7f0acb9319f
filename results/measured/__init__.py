"""What was measured: the typed records of cells and points."""
