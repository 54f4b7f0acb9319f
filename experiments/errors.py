"""Failures that a user can cause and mend."""


class UserError(Exception):
    """One clear line that says what is wrong and what to do; shown without a traceback, exit code 2."""
