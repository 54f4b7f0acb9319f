"""What documents show of the code: `python -m experiments.commands.reference` writes both anew.

docs/commands.md is made from the commands, README's picture of the pipeline from the jobs of Table 6.
"""

import re
from collections.abc import Iterator, Sequence

from experiments.commands.catalogue import BESIDE, COMMANDS, OWN_OF_THE_SCRIPT, takers
from experiments.commands.options import EVERYWHERE, OPTIONS, ROOT, flag
from experiments.settings import known, load_preset
from experiments.tables.target import Asked, Selection, targets
from results.tables.document import markdown_table

_HEAD = """# Commands

Made from the commands themselves; a test holds this page to them. `./reproduce.sh` shows them on one screen,
`./reproduce.sh COMMAND --help` the options of one with an example.
"""


def reference() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, *_targets(), *_presets(), *_options(), *_commands(), *_script()]) + "\n"


def _targets() -> Iterator[str]:
    yield "## Tables and figures\n"
    rows = [[f"`{name}`" for name in target.names] for target in targets().values()]
    abouts = [target.about for target in targets().values()]
    table = [[", ".join(names), about] for names, about in zip(rows, abouts, strict=True)]
    table += [[f"`{name}`", about] for name, about in {"all": "everything above and the claims", **BESIDE}.items()]
    yield markdown_table(["target", "what it is"], table)
    yield (
        "\nTables of size reductions are computed from the table that they stand beside here; with `--from paper`, "
        "from the\nprinted one. `all` plans every table first, and names those that `--methods` or `--rows` leave "
        "nothing of.\n"
    )


def _presets() -> Iterator[str]:
    yield "## Presets\n"
    yield markdown_table(["`--preset`", ""], [[f"`{name}`", load_preset(name).about] for name in known("presets")])
    yield ""


def _options() -> Iterator[str]:
    yield "## Options of tables and figures\n"
    taken = [name for name in OPTIONS if any(target in targets() for target in takers(name))]
    shared = [name for name in EVERYWHERE if name not in taken]
    rows = [[*_option(name), _of(name)] for name in (*taken, *shared)]
    yield markdown_table(["option", "what it does", "of"], rows)
    yield ""


def _of(name: str) -> str:
    found = [target for target in takers(name) if target in targets()]
    return "all" if len(found) in (0, len(targets())) else ", ".join(f"`{target}`" for target in found)


def _option(name: str) -> list[str]:
    told = OPTIONS[name]
    value = told.get("metavar") or "\\|".join(told.get("choices", ()))
    if not value and told.get("action") != "store_true":
        value = name.upper()
    return [f"`{flag(name)}{f' {value}' if value else ''}`".replace("\\|", "|"), told["help"]]


def _commands() -> Iterator[str]:
    for command in COMMANDS.values():
        yield f"## {command.name}\n"
        yield f"`./reproduce.sh {command.name}{f' {command.words}' if command.words else ''}`: {command.about}.\n"
        yield f"    ./reproduce.sh {command.example}\n"
        if command.options:
            yield markdown_table(["option", "what it does"], [_option(name) for name in command.options])
            yield ""


def _script() -> Sequence[str]:
    rows = [[f"`{name}`", about] for name, about in OWN_OF_THE_SCRIPT.items()]
    return ["## Tests\n", markdown_table(["command", "what it does"], rows)]


def pipeline() -> str:
    """The stages behind a cell as a Mermaid graph; an arrow that a longer way implies is left out."""
    jobs = targets()["table6"].plan(Asked(load_preset("tiny"), Selection())).jobs
    arrows = {(up.stage.name, job.stage.name) for job in jobs for up in job.inputs.values()}
    stages = list(dict.fromkeys(job.stage.name for job in jobs))

    def reached(start: str) -> set[str]:
        found = {end for begin, end in arrows if begin == start and end != start}
        return found.union(*map(reached, found))

    def implied(begin: str, end: str) -> bool:
        return any(end in reached(other) for first, other in arrows if first == begin and other != end)

    kept = [(a, b) for a in stages for b in stages if (a, b) in arrows and a != b and not implied(a, b)]
    return "\n".join(["```mermaid", "graph LR", *(f"  {begin} --> {end}" for begin, end in kept), "```"])


def with_pipeline(readme: str) -> str:
    """The README with the picture of the pipeline between its marks."""
    return re.sub(r"(<!-- pipeline -->\n).*(?=<!-- /pipeline -->)", rf"\1{pipeline()}\n", readme, flags=re.DOTALL)


if __name__ == "__main__":
    (ROOT / "docs" / "commands.md").write_text(reference(), encoding="utf-8")
    (ROOT / "README.md").write_text(with_pipeline((ROOT / "README.md").read_text(encoding="utf-8")), encoding="utf-8")
