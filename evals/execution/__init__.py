"""Whether a program that a model wrote passes its tests: run isolated, and judged from outside the program."""
