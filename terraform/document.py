#!/usr/bin/env python3
"""Writes the inputs and outputs of the module into its README, or tells whether they are there already.

Standard library alone: it also runs where the project is not installed.

    terraform/document.py          # rewrites README.md
    terraform/document.py --check  # exit 1 when README.md is not what it would write

It reads variables.tf and outputs.tf as ``terraform fmt`` leaves them: blocks begin in the first column, their
arguments in the third. The form of the tables is our own.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
MARKS = ("<!-- made by document.py: begin -->", "<!-- made by document.py: end -->")

_BLOCK = re.compile(r'^(?P<kind>variable|output) "(?P<name>[^"]+)" \{\n(?P<body>.*?)^\}$', re.DOTALL | re.MULTILINE)
_ARGUMENT = re.compile(r"^  (?P<name>\w+) += (?P<value>.*?)(?=\n  [a-z]|\n\n|\n\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A variable or an output: its name and its arguments, as they are written."""

    kind: str
    name: str
    arguments: dict[str, str]

    @property
    def description(self) -> str:
        """Its description; raises KeyError without one."""
        return self.arguments["description"].strip('"').replace('\\"', '"')


def blocks(text: str) -> Iterator[Block]:
    """The variables and outputs of a file, in its order."""
    for match in _BLOCK.finditer(text):
        arguments = {each["name"]: each["value"].rstrip() for each in _ARGUMENT.finditer(match["body"])}
        yield Block(match["kind"], match["name"], arguments)


def table_of_inputs(variables: list[Block]) -> str:
    """Those that must be given first, each with its type and default."""
    rows = ["| input | type | default | what it is |", "|---|---|---|---|"]
    for each in sorted(variables, key=lambda block: "default" in block.arguments):
        default = _code(each.arguments["default"]) if "default" in each.arguments else "**required**"
        rows.append(f"| `{each.name}` | {_code(each.arguments['type'])} | {default} | {_cell(each.description)} |")
    return "\n".join(rows)


def table_of_outputs(outputs: list[Block]) -> str:
    """All outputs."""
    rows = ["| output | what it is |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{each.name}` | {_cell(each.description)} |" for each in outputs)])


def written(folder: Path) -> str:
    """What README.md of the module should be; raises SystemExit when it has no marks."""
    found = [block for name in ("variables.tf", "outputs.tf") for block in blocks((folder / name).read_text("utf-8"))]
    inputs = table_of_inputs([block for block in found if block.kind == "variable"])
    outputs = table_of_outputs([block for block in found if block.kind == "output"])
    before, begin, rest = (folder / "README.md").read_text("utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not begin or not end:
        raise SystemExit(f"README.md: the lines {MARKS[0]} and {MARKS[1]} are missing")
    return f"{before}{begin}\n\n## Inputs\n\n{inputs}\n\n## Outputs\n\n{outputs}\n\n{end}{after}"


def _code(value: str) -> str:
    """A value as code, in one line: an object's members are told by commas."""
    lines = [re.sub(r"\s+", " ", line.strip()) for line in value.splitlines()]
    inner = ", ".join(lines[1:-1])
    return f"`{lines[0]} {inner} {lines[-1]}`" if len(lines) > 1 else f"`{lines[0]}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description="The inputs and outputs of the module, in its README.")
    parser.add_argument("--check", action="store_true", help="only tell whether README.md is up to date")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the module")
    chosen = parser.parse_args()
    readme = chosen.folder / "README.md"
    wanted = written(chosen.folder)
    if chosen.check:
        if readme.read_text("utf-8") == wanted:
            return 0
        sys.stderr.write("terraform/README.md is not what variables.tf and outputs.tf say: run terraform/document.py\n")
        return 1
    readme.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
