"""``pixelproof demo``."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.output import FINDINGS, Json, emit, say, table

Recipients = Annotated[int, typer.Option("--recipients", help="How many people.", min=1, max=1_000_000)]
Seed = Annotated[int, typer.Option("--seed", help="Who does what.")]
Data = Annotated[Path, typer.Option("--data", help="The demo's folder; an earlier demo's is replaced.")]

MUST_BE_ZERO = (
    "pixels_in_untracked_mail",
    "opens_after_withdrawal_recorded",
    "forged_callbacks_accepted",
    "replayed_callbacks_applied_twice",
    "withdrawn_left_in_segments",
)


def demo(recipients: Recipients = 1_000, seed: Seed = 1, data: Data = Path("demo-data"), as_json: Json = False) -> None:
    """Play the main job end to end on local stand-ins for the three ESPs."""
    # The simulators, the SDKs and a web server: nothing that another command should wait for.
    import logging

    from cli.demo.mailings import Mailings
    from cli.demo.stage import staged
    from cli.demo.story import WAYS, Story
    from cli.serve import log_as_json

    log_as_json(logging.ERROR)
    began = time.monotonic()
    chance = random.Random(seed)  # noqa: S311 - who does what in the story; nothing secret
    with staged(data, chance) as stage:
        keep = max(len(WAYS), recipients // 100)
        story = Story(stage, Mailings(stage, chance, keep), chance, lambda text: say(f"[dim]·[/dim] {text}"))
        result = story.play(data / "consents.csv", recipients)
    result["seconds"] = round(time.monotonic() - began, 2)
    wrong = problems(result)
    emit(result, as_json=as_json, show=lambda console: show(console, result, data))
    for problem in wrong:
        say(f"[red]✗[/red] {problem}")
    if wrong:
        raise typer.Exit(FINDINGS)


def problems(result: dict[str, Any]) -> list[str]:
    """What is not as it must be, in words."""
    found = [f"{name.replace('_', ' ')}: {result[name]}, and must be 0" for name in MUST_BE_ZERO if result[name]]
    tracked = sum(one["tracked"] for one in result["providers"].values())
    withdrawn = sum(result["withdrawals"].values())
    if tracked != result["consented"]:
        found.append(f"{tracked} mails were tracked, {result['consented']} people had agreed")
    if result["second_campaign"]["tracked"] != tracked - withdrawn:
        found.append(f"the second campaign should track {tracked - withdrawn}: {withdrawn} fewer than the first")
    if not result["ledger"]["ok"]:
        found.append("the ledger is not sound")
    return found


def show(console: Console, result: dict[str, Any], data: Path) -> None:
    """The summary."""
    mails = table("One campaign, by consent", "ESP", "mails with a pixel", "without", "API calls")
    for name, one in result["providers"].items():
        mails.add_row(name, str(one["tracked"]), str(one["untracked"]), str(one["api_calls"]))
    console.print(mails)
    rows = table("\nWhat happened", "", "")
    for label, value in _summary(result):
        rows.add_row(label, value)
    console.print(rows)
    console.print(f"\nLook at it again: pixelproof ledger verify -c {data}/pixelproof.toml", highlight=False)


def _summary(result: dict[str, Any]) -> list[tuple[str, str]]:
    withdrawn = result["withdrawals"]
    ways = ", ".join(f"{n} by {way}" for way, n in withdrawn.items())
    ledger = result["ledger"]
    return [
        ("people", f"{result['recipients']}, of whom {result['consented']} agreed"),
        ("pixels in mail to the others", str(result["pixels_in_untracked_mail"])),
        ("opens recorded", str(result["opens_recorded"])),
        ("withdrawals", f"{sum(withdrawn.values())}: {ways}"),
        ("withdrawn people still in an ESP's segment", str(result["withdrawn_left_in_segments"])),
        (
            "opens of old mail after that",
            f"{result['opens_after_withdrawal_seen']} seen, {result['opens_after_withdrawal_recorded']} recorded",
        ),
        (
            "forged callbacks",
            f"{result['forged_callbacks_sent']} sent, {result['forged_callbacks_accepted']} accepted",
        ),
        ("repeated callbacks that took effect again", str(result["replayed_callbacks_applied_twice"])),
        ("second campaign", f"{result['second_campaign']['tracked']} mails with a pixel"),
        ("ledger", f"{ledger['entries']} entries, {'sound' if ledger['ok'] else 'NOT SOUND'}"),
        ("seconds", str(result["seconds"])),
    ]
