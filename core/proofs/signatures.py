"""Signatures of proof records: JSON Web Signatures (RFC 7515), checked with the partner's public key alone.

Three algorithms, each bound to one kind of key, so that no header can choose a weaker one: ``EdDSA`` (Ed25519,
RFC 8037), ``ES256`` (P-256) and ``RS256`` (RSA from 2048 bits, RFC 7518). The compact form carries the record as a
JSON object; the detached form (RFC 7515 appendix F) leaves it out and is made over the canonical JSON (RFC 8785) of
what the record states. Header parameters that must be understood (``crit``) are refused.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence

import msgspec
import rfc8785
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

Key = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
FEWEST_RSA_BITS = 2048
_P256_BYTES = 32
_PARTS = 3


class _Header(msgspec.Struct, frozen=True):
    alg: str
    crit: list[str] | None = None
    b64: bool = True


def read_key(pem: str) -> Key:
    """A public key in PEM; raises ValueError when it is none of the three kinds."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a public key in PEM") from None
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= FEWEST_RSA_BITS:
        return key
    raise ValueError("give an Ed25519, P-256 or RSA key (from 2048 bits)")


def genuine(jws: str, stated: Mapping[str, str], keys: Sequence[Key]) -> bool:
    """Whether one of the keys signed exactly what a record states.

    ``stated``: the record's cells by column, without blank ones and without the signature.
    """
    parts = jws.split(".")
    if len(parts) != _PARTS:
        return False
    head, payload, seal = parts
    try:
        header = msgspec.json.decode(_bytes(head), type=_Header)
        signature = _bytes(seal)
        if not payload:
            payload = _text(rfc8785.dumps(dict(stated)))
        elif msgspec.json.decode(_bytes(payload), type=dict[str, str]) != dict(stated):
            return False
    except (ValueError, RecursionError, rfc8785.CanonicalizationError):
        return False
    if header.crit is not None or not header.b64:
        return False
    return any(_signed(key, header.alg, f"{head}.{payload}".encode(), signature) for key in keys)


def _signed(key: Key, algorithm: str, message: bytes, signature: bytes) -> bool:
    try:
        if isinstance(key, Ed25519PublicKey) and algorithm == "EdDSA":
            key.verify(signature, message)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm == "ES256":
            if len(signature) != 2 * _P256_BYTES:
                return False
            r, s = (int.from_bytes(half, "big") for half in (signature[:_P256_BYTES], signature[_P256_BYTES:]))
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey) and algorithm == "RS256":
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _bytes(text: str) -> bytes:
    """Base64url without padding; raises ValueError for anything else."""
    if "=" in text:
        raise ValueError("padded")
    try:
        return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
