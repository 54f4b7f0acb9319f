"""What numbers can say: the printed ones, intervals and tests, matching, rounding, and how they read."""
