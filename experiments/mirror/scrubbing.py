"""Keeping places of the machine and secrets out of what leaves it."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

PLACE, SECRET = "[path]", "[secret]"

# from the root, from a home directory or upwards; a slash inside a word, as in "and/or" or a URL, begins no path
_PATH = re.compile(r"""(?<![\w.:/~<-])(?:file://|~[\w.-]*/|\.\./|/(?=[\w.@~+-]))[^\s"'`,;:()\[\]{}<>|\\]*""")
_NAMES_OF_SECRETS = re.compile("KEY|TOKEN|SECRET|PASSWORD")


def scrubbed(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text without paths that lead out of the working directory and without values of secret variables.

    Secret are the variables with KEY, TOKEN, SECRET or PASSWORD in their names. Of a path with a space in it that lies
    neither below the home nor the working directory, what follows the space stays.
    """
    for name, value in environ.items():
        if len(value) >= 8 and _NAMES_OF_SECRETS.search(name.upper()):
            text = text.replace(value, SECRET)
    for place in sorted({str(Path.home()), os.getcwd()} - {"/"}, key=len, reverse=True):
        text = text.replace(place, "/.")
    return _PATH.sub(PLACE, text)
