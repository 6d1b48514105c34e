"""``pixelproof callbacks dead list|show|replay|drop`` and ``callbacks acknowledge``: callbacks nobody understood."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Sequence
from functools import partial
from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cli.output import FINDINGS, OUT_OF_REACH, Config, Json, emit, say, services, table
from cli.sync import Only, chosen
from core.dead_letters import DeadLetter, Replayed
from core.errors import InputError, PixelproofError
from core.model import RecipientId
from core.unexplained import acknowledge as acknowledge_counts
from webhooks.assembly import Services

SHOWN = 1_000
"""Letters that are listed one by one."""

_CONTROLS = re.compile(r"[^\S\n ]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What would make a terminal do, or show, something else than the payload says."""

app = typer.Typer(no_args_is_help=True, help="What ESPs sent and nobody here understood.")
dead = typer.Typer(
    no_args_is_help=True,
    help="Genuine events that could not be read, or that name nobody. Each may be a withdrawal.",
)
app.add_typer(dead, name="dead")

Number = Annotated[int, typer.Argument(metavar="ID", help="The number of a dead letter, as `dead list` shows it.")]
Numbers = Annotated[list[int], typer.Argument(metavar="ID...", help="Numbers of dead letters.")]
Some = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]...", help="Numbers of dead letters; without any, all of them.")
]


@dead.command(name="list")
def list_(provider: Only = None, config: Config = None, as_json: Json = False) -> None:
    """The dead letters that wait, without what they hold. Exit code 1 when there are some."""
    with services(config) as s:
        waiting = sum(n for (name, _), n in s.dead_letters.counts().items() if provider in {None, name})
        listed = [_described(letter) for letter in islice(s.dead_letters.listed(provider), SHOWN)]
    emit({"waiting": waiting, "letters": listed}, as_json=as_json, show=lambda c: _show_list(c, waiting, listed))
    if waiting:
        raise typer.Exit(FINDINGS)


@dead.command()
def show(number: Number, config: Config = None, as_json: Json = False) -> None:
    """Print what a dead letter holds, just as the ESP sent it: it may hold an address, an IP address, a user agent."""
    with services(config) as s:
        (letter,) = _named(s, [number])
    result = {**_described(letter), **_payload(letter.body)}

    def shown(console: Console) -> None:
        console.print(_told(_described(letter)), highlight=False, soft_wrap=True)
        console.print(escape(_visible(letter.body)), highlight=False, soft_wrap=True)

    emit(result, as_json=as_json, show=shown)


@dead.command()
def replay(numbers: Some = None, provider: Only = None, config: Config = None, as_json: Json = False) -> None:
    """Try dead letters again, and tell the ESPs of withdrawals at once. Exit code 1 when some are still dead.

    Helps after an update of pixelproof that can read them. May be interrupted and run again.
    """
    with services(config) as s:
        letters = _named(s, numbers, provider) if numbers else s.dead_letters.listed(provider)
        done, told = Replayed(), dict[str, dict[str, Any]]()
        try:
            s.post.replay(letters, done)
        finally:  # what took effect before a failure took effect
            told |= {name: _tell(s, name, done.protected) for name in (s.configured if done.protected else ())}
    for problem in done.problems.values():
        say(f"[red]error:[/red] {escape(problem)}")
    result = {
        "applied": done.applied,
        "still_dead": done.still_dead,
        "effects": dict(+done.counts),
        "providers": told,
        "problems": done.problems,
    }
    emit(result, as_json=as_json, show=lambda console: _show_replayed(console, done, told))
    if any("error" in one for one in told.values()):
        raise typer.Exit(OUT_OF_REACH)
    if done.still_dead or any(one["rejected"] for one in told.values()):
        raise typer.Exit(FINDINGS)


@dead.command()
def drop(numbers: Numbers, config: Config = None, as_json: Json = False) -> None:
    """Forget dead letters for good, once somebody has seen to what they say."""
    with services(config) as s:
        gone = s.dead_letters.remove(letter.id for letter in _named(s, numbers))
    emit({"dropped": gone}, as_json=as_json, show=lambda console: console.print(f"{gone} dropped"))


@app.command()
def acknowledge(provider: Only = None, config: Config = None, as_json: Json = False) -> None:
    """Have `doctor` tell only of unknown events and unmapped topics that come from now on."""
    with services(config) as s:
        names = chosen(s, provider)
        counts = {name: partial(acknowledge_counts, store=s.store, provider=name) for name in names}
        done = {name: s.ledger.in_batch(count) for name, count in counts.items()}
    emit(done, as_json=as_json, show=lambda console: console.print(f"{sum(done.values())} findings acknowledged"))


def _named(s: Services, numbers: Collection[int], provider: str | None = None) -> Sequence[DeadLetter]:
    """The letters of these numbers; raises InputError when one is missing, so that nothing is done by mistake."""
    found = [letter for letter in s.dead_letters.get(set(numbers)) if provider in {None, letter.provider}]
    missing = set(numbers) - {letter.id for letter in found}
    if missing:
        raise InputError(f"no dead letter has the number {', '.join(map(str, sorted(missing)))}: see `dead list`")
    return found


def _tell(s: Services, name: str, recipients: Collection[RecipientId]) -> dict[str, Any]:
    """Tell one ESP; a failure of it becomes part of the result, so that the others are told."""
    try:
        done = s.segments.push(name, s.connector(name), recipients)
    except PixelproofError as error:
        say(f"[red]error:[/red] {escape(str(error))}")
        return {"error": str(error)}
    return {"removed": done.removed, "rejected": len(done.rejected), "api_calls": done.api_calls}


def _described(letter: DeadLetter) -> dict[str, Any]:
    """A letter without what it holds."""
    return {
        "id": letter.id,
        "provider": letter.provider,
        "reason": letter.reason.value,
        "received_at": letter.received_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "bytes": len(letter.body),
    }


def _payload(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def _visible(body: bytes) -> str:
    """A payload as text; a terminal obeys nothing that stands in it."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", body.decode(errors="backslashreplace"))


def _told(one: dict[str, Any]) -> str:
    return f"{one['id']}: {one['provider']}, {one['reason']}, received {one['received_at']}, {one['bytes']} bytes"


def _show_list(console: Console, waiting: int, listed: Sequence[dict[str, Any]]) -> None:
    if not waiting:
        console.print("[green]✓[/green] no dead letters")
        return
    shown = table(f"{waiting} dead letters", "id", "provider", "reason", "received", "bytes")
    for one in listed:
        shown.add_row(*map(str, one.values()))
    console.print(shown)
    if waiting > len(listed):
        console.print(f"… and {waiting - len(listed)} more")


def _show_replayed(console: Console, done: Replayed, told: dict[str, dict[str, Any]]) -> None:
    effects = ", ".join(f"{n} {effect.replace('_', ' ')}" for effect, n in sorted((+done.counts).items()))
    console.print(f"{done.applied} applied ({effects or 'no effect'}), {done.still_dead} still dead", highlight=False)
    for name, one in told.items():
        how = "failed; `pixelproof sync` sends it" if "error" in one else f"{one['removed']} memberships taken away"
        console.print(f"{name}: {how}", highlight=False)
