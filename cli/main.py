"""The entry point: the commands, and what becomes of errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import typer
from rich.markup import escape

from cli import (
    callbacks,
    campaigns,
    consents,
    doctor,
    dossier,
    erase,
    incidents,
    keys,
    ledger,
    proofs,
    purge,
    receipt,
    report,
    serve,
    setup,
    sync,
    webhooks,
)
from cli.check_mail import check_mail
from cli.demo.command import demo
from cli.output import FINDINGS, OUT_OF_REACH, WRONG_USE, say
from cli.snippets import snippets
from core.errors import InputError, PixelproofError, PlanError, SettingsError, TokenError

app = typer.Typer(
    name="pixelproof",
    help="Lawful e-mail open tracking beside SendGrid, Mailchimp and Amazon SES.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(setup.init)
app.command()(demo)
app.command(name="import")(consents.import_)
app.command()(consents.status)
app.command()(sync.sync)
app.command()(sync.poll)
app.command()(doctor.doctor)
app.command()(dossier.dossier)
app.command()(erase.erase)
app.command()(purge.purge)
app.command()(report.report)
app.command()(serve.serve)
app.command()(check_mail)
app.command()(snippets)
app.add_typer(campaigns.app, name="campaigns")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(callbacks.app, name="callbacks")
app.add_typer(incidents.app, name="incidents")
app.add_typer(keys.app, name="keys")
app.add_typer(ledger.app, name="ledger")
app.add_typer(receipt.app, name="receipt")
app.add_typer(proofs.app, name="proofs")


def exit_code(error: PixelproofError) -> int:
    """What an error means to a script."""
    if isinstance(error, SettingsError | InputError | TokenError):
        return WRONG_USE
    return FINDINGS if isinstance(error, PlanError) else OUT_OF_REACH


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. Errors of ours are told in one line, without a trace."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(words)
    except PixelproofError as error:
        if "--json" in words:
            sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
        say(f"[red]error:[/red] {escape(str(error))}")
        sys.exit(exit_code(error))
