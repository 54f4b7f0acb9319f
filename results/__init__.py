"""Printed numbers, measured cells, and the tables and verdicts that put the one beside the other."""
