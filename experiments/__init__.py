"""Presets, grids, stages and the command line: what turns a table's name into measured numbers."""
