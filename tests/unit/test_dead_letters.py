"""Callbacks that were not understood: kept once, tried again as of when they came, forgotten with a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.dead_letters import DeadLetter, Forgotten, Reason, Replayed
from core.errors import StoreError
from core.ledger import Recording
from core.model import Action, ConsentEvent, PurposeId, State
from core.settings import Secrets, Sender, Settings
from core.spellings import addresses_in
from core.stores.dead_letters import SqliteDeadLetters
from core.stores.sqlite import SqliteStore
from core.verify import verify
from tests.vectors import make_sendgrid
from webhooks.assembly import Services

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
MEASURING = PurposeId("performance")
ADA = "ada@example.org"
KEYS = {
    "PIXELPROOF_LEDGER_KEY": "11" * 32,
    "PIXELPROOF_RECIPIENT_KEY": "22" * 32,
    "PIXELPROOF_TOKEN_KEYS": f"1:{'33' * 64}",
}
LEFT = b'[{"event":"unsubscribe","email":"ada@example.org","sg_event_id":"a"}]'
NOBODY = b'[{"event":"unsubscribe","email":"somebody"}]'


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """An installation with SendGrid, on a day after the letters came."""
    made = Settings(
        sender=Sender(name="Example"),
        base_url="https://choices.example.com",
        purposes=(MEASURING,),
        providers={"sendgrid": {"webhook_public_keys": [make_sendgrid.spki(make_sendgrid.KEY)]}},
    )
    with Services(made, Secrets(KEYS), tmp_path, lambda: START + timedelta(days=9)) as built:
        yield built


def letter(body: bytes, reason: Reason = Reason.UNREADABLE, provider: str = "sendgrid") -> DeadLetter:
    """A letter that came at the start, signed a second before."""
    return DeadLetter(provider, reason, START, START - timedelta(seconds=1), body)


def gave(services: Services, at: datetime) -> None:
    """Ada agreed."""
    event = ConsentEvent(services.recipient(ADA), (MEASURING,), Action.GIVEN, at, at)
    services.ledger.record([Recording(event)])


def state(services: Services) -> State:
    """Where Ada stands."""
    head = services.store.head(services.recipient(ADA))
    assert head is not None
    return head.standings[MEASURING].state(services.now(), services.policy)


def waiting(services: Services) -> list[DeadLetter]:
    """The letters that wait."""
    return list(services.dead_letters.listed())


# Kept


def test_letters_lie_beside_the_addresses_and_not_in_the_ledger(services: Services) -> None:
    """Whoever copies the ledger's file copies no payload; what is removed is gone from the file, and no id returns."""
    services.dead_letters.put([letter(ADA.encode() * 50), letter(b"C")])
    services.store.size()
    kept, _ = waiting(services)
    assert services.dead_letters.remove([kept.id, 99]) == 1
    services.dead_letters.put([letter(b"B")])
    assert min(each.id for each in waiting(services)) > kept.id
    services.close()
    files = {file.name: file.read_bytes() for file in services.data.iterdir()}
    assert set(files) == {"addresses.sqlite3", "ledger.sqlite3"}
    assert not any(ADA.encode() in content for content in files.values())


# Tried again


def test_what_can_be_read_by_now_takes_effect_and_is_gone(services: Services) -> None:
    """The rest stays; the effects are counted as those of the provider's callbacks are."""
    gave(services, START - timedelta(days=1))
    services.dead_letters.put([letter(b"event=open"), letter(LEFT), letter(NOBODY), letter(b"[7]")])
    done = services.post.replay(services.dead_letters.listed())
    assert (done.applied, done.still_dead, done.problems) == (1, 3, {})
    assert +done.counts == {"unsubscribe": 1}
    assert done.protected == {services.recipient(ADA)}
    assert [each.body for each in waiting(services)] == [b"event=open", NOBODY, b"[7]"]
    assert state(services) is State.WITHDRAWN
    assert services.store.counters("callbacks:sendgrid") == {"unsubscribe": 1}


@pytest.mark.parametrize("said", [b"", b',"timestamp":1793700000'], ids=["undated", "dated after it came"])
def test_a_letter_counts_from_when_it_came(services: Services, said: bytes) -> None:
    """What somebody agreed to afterwards stands: a replay undoes no later decision."""
    gave(services, START + timedelta(days=1))
    services.dead_letters.put([letter(LEFT.replace(b"}", said + b"}"))])
    assert services.post.replay(services.dead_letters.listed()).applied == 1
    assert state(services) is State.GIVEN
    assert verify(services.store).ok


def test_a_letter_whose_events_came_otherwise_is_a_repetition(services: Services) -> None:
    """Nothing is recorded twice, and the ESPs are told all the same."""
    again = [letter(LEFT), letter(LEFT + b" ")]
    services.dead_letters.put(again)
    done = services.post.replay(services.dead_letters.listed())
    assert +done.counts == {"unsubscribe": 1, "duplicates": 1}
    assert done.protected == {services.recipient(ADA)}
    assert services.store.size() == 1


@pytest.mark.parametrize("removed", [False, True], ids=["not removed", "removed"])
def test_a_replay_can_be_interrupted(services: Services, monkeypatch: pytest.MonkeyPatch, *, removed: bool) -> None:
    """It is applied, and then not removed, or removed and nobody told: whom it protects is known all the same."""
    services.dead_letters.put([letter(LEFT)])
    done, remove = Replayed(), SqliteDeadLetters.remove

    def broken(store: SqliteDeadLetters, numbers: Iterable[int]) -> int:
        if removed:
            remove(store, numbers)
        raise StoreError("out of reach")

    with monkeypatch.context() as inner:
        inner.setattr(SqliteDeadLetters, "remove", broken)
        with pytest.raises(StoreError):
            services.post.replay(waiting(services), done)
    assert done.protected == {services.recipient(ADA)}
    again = services.post.replay(services.dead_letters.listed())
    assert again.applied == int(not removed)
    assert (services.store.size(), waiting(services)) == (1, [])


def test_a_failing_ledger_removes_no_letter(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """What took no effect stays."""
    services.dead_letters.put([letter(LEFT)])

    def broken(_store: SqliteStore) -> None:
        raise StoreError("out of reach")

    with monkeypatch.context() as inner:
        inner.setattr(SqliteStore, "batch", broken)
        with pytest.raises(StoreError):
            services.post.replay(waiting(services))
    assert [each.body for each in waiting(services)] == [LEFT]


def test_letters_of_an_esp_that_is_gone_hold_up_no_others(services: Services) -> None:
    """They stay, and the setting that is missing is named."""
    services.dead_letters.put([letter(LEFT, provider="ses"), letter(LEFT)])
    done = services.post.replay(services.dead_letters.listed())
    assert (done.applied, done.still_dead) == (1, 1)
    assert "[providers.ses]" in done.problems["ses"]
    assert [each.provider for each in waiting(services)] == ["ses"]


# Forgotten

SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "capitals": str.upper,
    "JSON": lambda a: json.dumps([{"email": a}]),
    "JSON with numbers": lambda a: json.dumps([{"email": a}]).replace("@", "\\u0040"),
    "JSON in JSON": lambda a: json.dumps({"Message": json.dumps({"to": [a]}).replace("@", "\\u0040")}),
    "form": lambda a: urlencode({"type": "unsubscribe", "data[email]": a, "x": "1"}),
    "form, not quoted": lambda a: f"type=unsubscribe&data[email]={a}&x=1",
    "form, lower case": lambda a: f"data[email]={quote(a, safe='').lower()}",
    "JSON in a form": lambda a: urlencode({"mandrill_events": json.dumps([{"msg": {"email": a}}])}),
    "header": lambda a: f"To: Ada Lovelace <{a}>, x@y.example",
    "link": lambda a: f'"mailto:{a}?subject=x"',
    "quoted": lambda a: f"for '{a}'.",
}
NEIGHBOURS = [
    "nada@example.org",
    "ada@example.organic",
    "ada@example.org.example",
    "a.da@example.org",
    "ada@sub.example.org",
]


@pytest.mark.parametrize("how", SPELLINGS)
@pytest.mark.parametrize("address", [ADA, "ada+news@example.org", "o'brien@example.org", "zoé@xn--mller-kva.example"])
def test_a_person_is_found_however_the_address_is_spelt(services: Services, how: str, address: str) -> None:
    """In a letter about that person alone; letters about people whose addresses look alike stay."""
    body = SPELLINGS[how](address).encode()
    others = [letter(SPELLINGS[how](each).encode(), Reason.MALFORMED) for each in NEIGHBOURS]
    services.dead_letters.put([letter(body, Reason.MALFORMED), *others])
    assert len(services.post.naming(address)) == 1
    assert services.post.forget(address) == Forgotten(1)
    assert [each.body for each in waiting(services)] == [each.body for each in others]
    assert services.post.naming(address) == []


def test_a_domain_is_found_in_either_form(services: Services) -> None:
    """The letter spells it as people do, we know it in ASCII."""
    services.dead_letters.put([letter("ada@müller.example".encode()), letter(b"b\xc3")])
    assert services.post.forget("ada@xn--mller-kva.example").letters == 1


def test_a_person_is_found_by_the_tag_of_the_mail(services: Services) -> None:
    """An event may name nobody but by the tag."""
    tag = services.recipient(ADA).hex()
    services.dead_letters.put([letter(f'[{{"pixelproof_recipient":"{tag}"}}]'.encode())])
    assert services.post.forget(ADA) == Forgotten(1)


def test_a_body_with_others_withdrawals_is_not_forgotten(services: Services) -> None:
    """What could not be read as a whole may hold them: somebody must look. One event of a body holds none."""
    both = b'{"events":["ada@example.org","bob@example.org"]}'
    services.dead_letters.put([letter(both), letter(both + b" ", Reason.MALFORMED)])
    (shared, _) = waiting(services)
    assert services.post.forget(ADA) == Forgotten(1, (shared.id,))
    assert waiting(services) == [shared]


def test_an_erasure_forgets_letters_and_says_so(services: Services) -> None:
    """It is not complete while a letter that names the person waits for somebody's look."""
    services.dead_letters.put([letter(LEFT), letter(LEFT + b"bob@example.org")])
    recipient = services.recipient(ADA)
    services.book.put([(recipient, ADA, None)])
    done = services.erasing.erase(recipient, ADA, {})
    assert (done.letters.letters, len(done.letters.shared), done.complete) == (1, 1, False)
    assert services.book.get([recipient]) == {}
    services.dead_letters.remove(done.letters.shared)
    assert services.erasing.erase(recipient, ADA, {}).complete


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(deadline=None)
def test_any_payload_can_be_searched(payload: bytes) -> None:
    """Whatever was kept; and an address is found behind it."""
    assert ADA in addresses_in(payload + b' "ada@example.org" ')


def test_a_large_payload_without_an_end_is_searched() -> None:
    """Megabytes without anything that could end an address, and with nothing but signs of one."""
    assert addresses_in(b"a" * 3_000_000) == set()
    assert addresses_in(b"@" * 300_000) == set()
    assert addresses_in(b"a@" * 100_000) == set()
