"""Running programs that a model wrote: isolated, and judged from outside the program."""
