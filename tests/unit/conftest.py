"""What the tests of the domain share: services over real stores with a clock that stands still, and events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.addresses import pseudonym
from core.ledger import Recording
from core.model import Action, ConsentEvent, NoticeRef, PurposeId, RecipientId
from core.notary import Notary
from core.policy import Policy, load
from core.settings import Secrets, Sender, Settings
from tests.log_in_folder import keys, notary_in
from webhooks.assembly import Services

START = datetime(2026, 11, 2, 9, 0, 0, 250_000, tzinfo=UTC)
PURPOSES = ("performance", "deliverability")
KEYS = {
    "PIXELPROOF_LEDGER_KEY": "11" * 32,
    "PIXELPROOF_RECIPIENT_KEY": "22" * 32,
    "PIXELPROOF_TOKEN_KEYS": f"1:{'33' * 64}",
}
ADA = pseudonym(bytes.fromhex(KEYS["PIXELPROOF_RECIPIENT_KEY"]), "ada@example.org")

# A busy machine is no finding.
hypothesis_settings.register_profile("pixelproof", deadline=None)
hypothesis_settings.load_profile("pixelproof")


def _times() -> st.SearchStrategy[datetime]:
    """A few instants, to the second and within it, so that ties are common."""
    within = st.sampled_from([0, 0, 1, 250_000, 999_999])
    return st.builds(
        lambda seconds, micros: (START + timedelta(seconds=seconds)).replace(microsecond=micros),
        st.integers(0, 4),
        within,
    )


st.register_type_strategy(
    ConsentEvent,
    st.builds(
        ConsentEvent,
        recipient=st.just(RecipientId(b"r" * 16)),
        purposes=st.lists(st.sampled_from([PurposeId(p) for p in PURPOSES]), unique=True, min_size=1).map(tuple),
        action=st.sampled_from(Action),
        received_at=_times(),
        occurred_at=st.none() | _times(),
        source=st.sampled_from(["form", "import"]),
        notice=st.none() | st.builds(NoticeRef, st.text(min_size=1), st.none() | st.text(), st.none() | st.text()),
        partner=st.none() | st.sampled_from(["Partner", "Élan & Co"]),
        evidence=st.none() | st.text(),
        proof=st.none() | st.just("ab" * 32),
    ),
)


class _Clock:
    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at

    def wait(self, **span: float) -> datetime:
        self.at += timedelta(**span)
        return self.at


@pytest.fixture
def clock() -> _Clock:
    """A clock that stands still unless it is told to ``wait``."""
    return _Clock()


@pytest.fixture
def wait(clock: _Clock) -> Callable[..., datetime]:
    """Moves the clock on (``days=``, ``hours=`` …) and answers the new time."""
    return clock.wait


@pytest.fixture(scope="session")
def policy() -> Policy:
    """The default rules."""
    return load()


@pytest.fixture
def services(tmp_path: Path, clock: _Clock) -> Iterator[Services]:
    """Everything over SQLite files in a temporary folder."""
    settings = Settings(
        sender=Sender(name="Example"),
        base_url="https://choices.example.com",
        purposes=tuple(map(PurposeId, PURPOSES)),
        couplings=("prospecting-measurement",),
    )
    with Services(settings, Secrets(KEYS), tmp_path, clock) as built:
        yield built


@pytest.fixture
def event(clock: _Clock) -> Callable[..., ConsentEvent]:
    """Makes an event: dated and received now, about ada@example.org and one purpose, unless told otherwise."""

    def make(action: Action, **fields: Any) -> ConsentEvent:  # noqa: ANN401 - any field of the event
        now = clock()
        usual = {"recipient": ADA, "purposes": ("performance",), "received_at": now, "occurred_at": now}
        return ConsentEvent(action=action, **{**usual, **fields})

    return make


@pytest.fixture
def record(services: Services, event: Callable[..., ConsentEvent]) -> Callable[..., int]:
    """Records an event as ``event`` makes it; answers how many entries were appended."""

    def recorded(action: Action, *, keys: tuple[bytes, ...] = (), **fields: Any) -> int:  # noqa: ANN401
        return services.ledger.record([Recording(event(action, **fields), keys)])

    return recorded


@pytest.fixture
def log_folder(tmp_path: Path) -> Path:
    """Where a log lies."""
    return tmp_path / "log"


@pytest.fixture
def notary(services: Services, log_folder: Path) -> Notary:
    """The notary of the services' ledger."""
    return notary_in(services.store, log_folder, keys())


@pytest.fixture
def grow(services: Services, event: Callable[..., ConsentEvent]) -> Callable[[int], None]:
    """Records so many more entries, of as many people."""
    count = iter(range(1, 1_000_000))

    def grown(many: int) -> None:
        people = [RecipientId(next(count).to_bytes(16)) for _ in range(many)]
        services.ledger.record([Recording(event(Action.GIVEN, recipient=each)) for each in people])

    return grown
