"""Signatures of proof records: genuine ones pass, and nothing else, whatever the header says."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from core.errors import SettingsError
from core.proofs import partners
from core.proofs.partners import PartnerNotice, PartnerSettings
from core.proofs.signatures import genuine, read_key
from core.reconcile import Reconciliation
from webhooks.assembly import Services

ED = ed25519.Ed25519PrivateKey.generate()
P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
STATED = {"address": "ada@example.org", "collected_at": "2026-03-01T09:30:00Z", "purposes": "performance"}


def pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """The public key as settings have it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def seal_ed(message: bytes) -> bytes:
    """EdDSA."""
    return ED.sign(message)


def seal_p256(message: bytes) -> bytes:
    """ES256: two numbers of 32 bytes."""
    r, s = decode_dss_signature(P256.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def seal_rsa(message: bytes) -> bytes:
    """RS256."""
    return RSA.sign(message, padding.PKCS1v15(), hashes.SHA256())


Seal = Callable[[bytes], bytes]
WEAK = pem(rsa.generate_private_key(65537, 1024))  # noqa: S505 - that is the point
WAYS = {"EdDSA": (seal_ed, pem(ED)), "ES256": (seal_p256, pem(P256)), "RS256": (seal_rsa, pem(RSA))}


def jws(payload: bytes, seal: Seal, *, detached: bool = False, **header: Any) -> str:  # noqa: ANN401 - any header
    """A JWS over a payload."""
    head, body = b64(json.dumps(header).encode()), b64(payload)
    return f"{head}.{'' if detached else body}.{b64(seal(f'{head}.{body}'.encode()))}"


@pytest.mark.parametrize("algorithm", WAYS)
def test_what_the_partner_signed_is_genuine(algorithm: str) -> None:
    """Compact, with any order of members, or detached over the canonical form."""
    seal, key = WAYS[algorithm]
    keys = [read_key(key)]
    backwards = json.dumps(dict(reversed(STATED.items()))).encode()
    assert genuine(jws(backwards, seal, alg=algorithm), STATED, keys)
    assert genuine(jws(rfc8785.dumps(dict(STATED)), seal, detached=True, alg=algorithm), STATED, keys)


@pytest.mark.parametrize("algorithm", WAYS)
@pytest.mark.parametrize("detached", [False, True], ids=["compact", "detached"])
def test_another_record_is_not(algorithm: str, detached: bool) -> None:
    """One cell more, less or other than what was signed."""
    seal, key = WAYS[algorithm]
    token = jws(rfc8785.dumps(dict(STATED)), seal, detached=detached, alg=algorithm)
    for other in ({**STATED, "purposes": "profiling"}, {**STATED, "notice": "1"}, {"address": "ada@example.org"}):
        assert not genuine(token, other, [read_key(key)])


@pytest.mark.parametrize("algorithm", WAYS)
def test_every_flipped_character_is_noticed(algorithm: str) -> None:
    """In header, payload and signature."""
    seal, key = WAYS[algorithm]
    token = jws(rfc8785.dumps(dict(STATED)), seal, alg=algorithm)
    for at in range(0, len(token) - 1, 7):
        flipped = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        assert not genuine(flipped, STATED, [read_key(key)])


@pytest.mark.parametrize("header", [
    {"alg": "none"}, {"alg": "HS256"}, {"alg": "ES256"}, {"alg": "EdDSA", "crit": ["exp"], "exp": 1}, {},
    {"alg": "EdDSA", "b64": False}, {"alg": ["EdDSA"]},
], ids=str)  # fmt: skip
def test_no_header_chooses_another_way(header: dict[str, Any]) -> None:
    """The key alone decides on the algorithm; extensions are refused."""
    assert not genuine(jws(rfc8785.dumps(dict(STATED)), seal_ed, **header), STATED, [read_key(pem(ED))])


def test_an_empty_signature_and_other_texts_are_none() -> None:
    """Without an exception."""
    head = b64(b'{"alg":"none"}')
    for text in ("", "a.b", "..", f"{head}.{b64(b'{}')}.", "a.b.c.d", "é.é.é", f"{head}..=", "a" * 10_000):
        assert not genuine(text, STATED, [read_key(pem(ED))])


def test_one_of_two_keys_is_enough() -> None:
    """While a partner changes its key; none at all is not."""
    token = jws(rfc8785.dumps(dict(STATED)), seal_ed, alg="EdDSA")
    assert genuine(token, STATED, [read_key(pem(P256)), read_key(pem(ED))])
    assert not genuine(token, STATED, [])


@pytest.mark.parametrize(
    "key",
    ["", "no key", WEAK, pem(ec.generate_private_key(ec.SECP384R1()))],
    ids=["empty", "text", "short", "another-curve"],
)
def test_weak_and_other_keys_are_refused(key: str) -> None:
    """When the settings are read; the message names the partner and never the key."""
    with pytest.raises(SettingsError, match=r"^partners, Leads Ltd: jws_keys: ") as error:
        partners.check([PartnerSettings(name="Leads Ltd", jws_keys=(key,))])
    assert key == "" or key not in str(error.value)


def test_settings_of_partners_are_checked() -> None:
    """A name twice, and a time without a zone."""
    with pytest.raises(SettingsError, match="'A' stands twice"):
        partners.check([PartnerSettings(name="A"), PartnerSettings(name="A")])
    notice = PartnerNotice(version="1", since=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(SettingsError, match="since: give a zone"):
        partners.check([PartnerSettings(name="A", notices=(notice,))])


def test_a_delivery_with_signatures(services: Services, tmp_path: Path) -> None:
    """The wrong ones are tampered; without a key in the settings nothing is judged."""
    claims = tmp_path / "claims.csv"
    people = ("ada", "bob", "cat")
    rows = "".join(f"{name}@example.org,performance,given,2026-03-01T09:30:00Z,A\n" for name in people)
    claims.write_text(f"address,purposes,action,occurred_at,partner\n{rows}", "utf-8")
    services.importer.record(claims)
    file = tmp_path / "records.csv"
    lines = []
    for name, signed in (("ada", "ada"), ("bob", "cat")):
        stated = {**STATED, "address": f"{signed}@example.org"}
        token = jws(rfc8785.dumps(stated), seal_ed, alg="EdDSA")
        lines.append(f"{name}@example.org,2026-03-01T09:30:00Z,performance,{token}\n")
    lines.append("cat@example.org,2026-03-01T09:30:00Z,performance,\n")
    file.write_text(f"address,collected_at,purposes,signature\n{''.join(lines)}", "utf-8")
    plain = services.reconciliation
    with pytest.raises(SettingsError, match="give the public key"):
        plain.run(file, "A")
    fields = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    for require, found in (
        ((), {"tampered": 1, "proven": 2}),
        (("signature",), {"malformed": 1, "tampered": 1, "proven": 1}),
    ):
        agreed = PartnerSettings(name="A", jws_keys=(pem(ED),), require=require)  # type: ignore[arg-type]
        done = Reconciliation(**{**fields, "partners": (agreed,)}).run(file, "A", dry_run=True)
        assert done.findings == found
