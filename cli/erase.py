"""``pixelproof erase``: a person who asks to be forgotten."""

from __future__ import annotations

import typer
from rich.console import Console

from cli.consents import Address
from cli.output import FINDINGS, Config, Json, emit, services
from core.addresses import normalise
from core.erasing import Erased


def erase(address: Address, config: Config = None, as_json: Json = False) -> None:
    """Erase a person at every ESP and here; the nameless proof stays.

    Not for a withdrawal: some ESPs never take an erased address back.
    """
    with services(config) as s:
        known = normalise(address)
        recipient = s.identify(known)
        connectors = {name: s.connector(name) for name in s.configured}
        done = s.erasing.erase(recipient, known, connectors)
    result = {
        "recipient": recipient.hex(),
        "known": done.known,
        "complete": done.complete,
        "providers": {name: "erased" if gone else "pending" for name, gone in done.providers.items()},
    }
    emit(result, as_json=as_json, show=lambda console: _show(console, done))
    if not done.complete:
        raise typer.Exit(FINDINGS)


def _show(console: Console, done: Erased) -> None:
    for name, gone in done.providers.items():
        console.print(f"{name}: {'erased' if gone else 'accepted, and not seen to be done yet'}")
    if done.complete:
        console.print("The address is forgotten here. Nameless entries stay in the ledger: they prove past consents.")
    else:
        console.print("The address is kept here until every ESP has erased it: run this again later.")
