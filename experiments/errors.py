"""Failures that a user can cause and mend."""


class UserError(Exception):
    """One clear line that says what is wrong and what to do; shown without a traceback, exit code 2."""


class NotInTableError(UserError):
    """What the user selected is no part of a table, or of the preset: of `all`, the table is left out."""


class CheckError(Exception):
    """Numbers got worse than the reference: a line for each that did, exit code 1."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(*lines)
        self.lines = lines
