"""Failures that a user can cause and mend, and all others in a line."""


class UserError(Exception):
    """One clear line that says what is wrong and what to do; shown without a traceback, exit code 2."""


class NotInTableError(UserError):
    """What the user selected is no part of a table, or of the preset: of `all`, the table is left out."""


class CheckError(Exception):
    """Numbers got worse than the reference: a line for each that did, exit code 1."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(*lines)
        self.lines = lines


def unexpected(error: Exception) -> str:
    """A line on a failure that nobody foresaw: its class and words, those of its causes, where its traceback is."""
    import tempfile  # what every start would pay for, and hardly any needs
    import traceback
    from textwrap import shorten

    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or (None if chain[-1].__suppress_context__ else chain[-1].__context__):
        chain.append(cause)
    said = ", because of ".join(shorten(f"{type(link).__name__}: {link}", 200) for link in chain)
    with tempfile.NamedTemporaryFile("w", prefix="reproduce-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    return f"{said} (nobody foresaw this; its traceback, for a bug report, is in {file.name})"
