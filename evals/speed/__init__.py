"""How fast a model runs, in how much memory, and what the machine would allow."""
