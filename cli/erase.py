"""``pixelproof erase``: a person who asks to be forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console

from cli.consents import Address
from cli.output import FINDINGS, Config, Json, emit, services
from core.addresses import normalise
from core.erasing import Erased, ErasingProofs, is_remainder
from core.errors import InputError
from core.model import RecipientId
from webhooks.assembly import Services

Proofs = Annotated[
    bool,
    typer.Option(
        "--proofs",
        help="Erase what the ledger says of this person, too: nobody can prove these consents any more. The hashes"
        " stay, so that the ledger verifies as before. Needs --yes; see docs/retention.md on who must decide it.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Yes, destroy the proof.")]


def erase(
    address: Address, proofs: Proofs = False, yes: Yes = False, config: Config = None, as_json: Json = False
) -> None:
    """Erase a person at every ESP and here; the nameless proof stays, unless --proofs.

    Not for a withdrawal: some ESPs never take an erased address back.
    """
    if proofs and not yes:
        raise InputError(
            "--proofs destroys the proof of this person's consents for good, and nothing brings it back, while the"
            " ledger verifies as before. Without it the proof stays, and names nobody. If the controller has decided"
            " that it must go, say --yes as well"
        )
    with services(config) as s:
        known = normalise(address)
        recipient = s.identify(known)
        connectors = {name: s.connector(name) for name in s.configured}
        done = s.erasing.erase(recipient, known, connectors)
        destroyed = _proofs(s).erase(recipient) if proofs and all(done.providers.values()) else None
        remains = [each for each in _remains(s, recipient) if each.number]
    result = {
        "recipient": recipient.hex(),
        "known": done.known,
        "complete": done.complete,
        "providers": {name: "erased" if gone else "pending" for name, gone in done.providers.items()},
        "dead_letters": done.letters.letters,
        "dead_letters_shared": list(done.letters.shared),
        "opens": done.opens,
        "proofs": destroyed,
        "remains": [asdict(each) for each in remains],
    }
    emit(result, as_json=as_json, show=lambda console: _show(console, done, destroyed, remains))
    if not done.complete:
        raise typer.Exit(FINDINGS)


def _proofs(s: Services) -> ErasingProofs:
    return ErasingProofs(s.ledger, s.store.erase_bodies, s.reconciliation.forget_claims, s.now)


@dataclass(frozen=True, slots=True)
class _Remaining:
    """What is kept by pseudonym although the person was erased: what, how much of it, and why."""

    what: str
    number: int
    why: str


def _remains(s: Services, recipient: RecipientId) -> Iterator[_Remaining]:
    record, kept, chain = s.people.record(recipient), s.settings.retention, s.store.chain(recipient)
    remainder = {entry.seq for entry in chain if entry.body and is_remainder(entry)}
    yield _Remaining(
        "ledger entries",
        len(record.entries) - len(remainder),
        "they prove, without a name, what was agreed to and withdrawn, and keep the withdrawal should the address come"
        " back; without them the ledger could not be verified",
    )
    yield _Remaining(
        "hashes of erased ledger entries",
        sum(not entry.body for entry in chain),
        "they say nothing of the person and prove nothing any more; without them the ledger could not be verified",
    )
    yield _Remaining(
        "ledger entries that say no more than that all is withdrawn",
        len(remainder),
        "without them an old list could give a consent back",
    )
    yield _Remaining(
        "rows of campaigns' snapshots",
        len(record.mailings),
        "they show which pixel went out and why;"
        f" `purge` deletes them {kept.snapshot_months} months after the campaign",
    )
    yield _Remaining(
        "times at which an ESP followed a withdrawal",
        len(s.records.taken_out(recipient)),
        f"they show that the withdrawal took effect; `purge` deletes them after {kept.evidence_months} months",
    )


def _show(console: Console, done: Erased, destroyed: int | None, remains: Sequence[_Remaining]) -> None:
    for name, gone in done.providers.items():
        console.print(f"{name}: {'erased' if gone else 'accepted, and not seen to be done yet'}")
    if done.letters.letters:
        console.print(f"{done.letters.letters} dead letters about this person are forgotten.")
    for number in done.letters.shared:
        console.print(
            f"Dead letter {number} holds other people's addresses too, and perhaps their withdrawals: see"
            f" `pixelproof callbacks dead show {number}`, do what it says, then `dead drop {number}`."
        )
    if done.opens:
        console.print(f"{done.opens} opens of this person are forgotten.")
    if destroyed is not None:
        console.print(
            f"What {destroyed} ledger entries said is destroyed: nobody can prove any more that this person agreed."
            " The ledger, its tree and its checkpoints verify as before."
        )
    if all(done.providers.values()):
        console.print("The address is forgotten here. What remains is nameless:" if remains else "Nothing remains.")
        for each in remains:
            console.print(f"  {each.number} {each.what}: {each.why}", highlight=False)
    else:
        console.print("The address is kept here until every ESP has erased it: run this again later.")
