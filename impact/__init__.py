"""IMPACT: importance-aware activation space reconstruction (Chowdhury et al., ACL 2026).

The method and the layer interface that every method of the harness shares. Needs torch and transformers only.
Importing it makes its checkpoints known to transformers' Auto classes.
"""

from impact.registration import register

register()
