"""What all commands print, and where: one result on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.settings import settings_path
from webhooks.assembly import Services

DONE, FINDINGS, WRONG_USE, OUT_OF_REACH = 0, 1, 2, 3
"""Exit codes: done; something is not as it should be; wrong use or settings; a provider or the store out of reach."""

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The settings file (else $PIXELPROOF_CONFIG, else pixelproof.toml).", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]

progress_console = Console(stderr=True)


def services(config: Path | None) -> Services:
    """The services of the settings file; a context manager. Raises SettingsError."""
    return Services.from_file(settings_path(config))


def emit(result: Mapping[str, Any], *, as_json: bool, show: Callable[[Console], None]) -> None:
    """Print a command's result: as one JSON object, or for a person."""
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    else:
        show(Console())


def table(title: str, *columns: str) -> Table:
    """A table in the style of all commands; the first column is text, the others are numbers or words."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="dim", pad_edge=False, box=None)
    for column in columns:
        made.add_column(column)
    return made


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr when that is a terminal; call what it gives with the number of items just done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress_console, disable=not progress_console.is_terminal, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.advance(task, done)


def say(text: str) -> None:
    """Tell the person at the terminal something beside the result."""
    progress_console.print(text, highlight=False, soft_wrap=True)
