"""Timestamps of checkpoints by an authority that is not the sender (RFC 3161). No I/O: the transport is injected.

A stamp says that a checkpoint existed at a time, by the word of the authority. What is stamped are the checkpoint's
bytes, so that `openssl ts -verify -data CHECKPOINT -in CHECKPOINT.tsr -CAfile ROOTS` checks it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from core.errors import InputError, StoreError

Post = Callable[[bytes], bytes]
"""Sends a request (application/timestamp-query) and answers the body of the reply; raises StoreError."""
GRANTED = frozenset({0, 1})
"""PKIStatus: granted, and granted with modifications (RFC 3161 §2.4.2)."""


class StampError(InputError):
    """A timestamp is not one, is over something else, or is not of an authority that is trusted."""


@dataclass(frozen=True, slots=True)
class Stamper:
    """Asks an authority for timestamps.

    Attributes:
        post: The way to it.
    """

    post: Post

    def stamp(self, content: bytes) -> bytes:
        """The authority's response over some bytes, in DER.

        That it is signed by the right authority is for whoever relies on it to check: only they know whom they trust.

        Raises:
            StoreError: the authority is out of reach, refuses, or answers about something else.
        """
        request = TimestampRequestBuilder().data(content).hash_algorithm(HashAlgorithm.SHA256)
        query = request.nonce(nonce=True).cert_request(cert_request=True).build()
        raw = self.post(query.as_bytes())
        try:
            response = _response(raw)
        except StampError as error:
            raise StoreError(f"the timestamp authority: {error}") from None
        same = response.tst_info.nonce == query.nonce
        if not same or response.tst_info.message_imprint.message != query.message_imprint.message:
            raise StoreError("the timestamp authority answered about something else")
        return raw


def checked(raw: bytes, content: bytes, roots: Sequence[bytes]) -> datetime:
    """The time at which an authority saw some bytes.

    Args:
        raw: The response, in DER.
        content: What it shall be over.
        roots: The certificates that are trusted, in PEM; each may hold several.

    Raises:
        StampError: it is not a timestamp over these bytes by an authority under these certificates.
    """
    response = _response(raw)
    builder = VerifierBuilder()
    for certificate in _certificates(roots):
        builder = builder.add_root_certificate(certificate)
    try:
        builder.build().verify_message(response, content)
    except (VerificationError, ValueError):
        raise StampError("the timestamp is not over this checkpoint, or not by an authority that you trust") from None
    return response.tst_info.gen_time


def _response(raw: bytes) -> TimeStampResponse:
    try:
        response = decode_timestamp_response(raw)
        granted = response.status in GRANTED and response.tst_info is not None
    except ValueError:
        raise StampError("what stands for a timestamp cannot be read") from None
    if not granted:
        raise StampError("the timestamp was refused")
    return response


def _certificates(roots: Sequence[bytes]) -> list[x509.Certificate]:
    try:
        found = [certificate for pem in roots for certificate in x509.load_pem_x509_certificates(pem)]
    except ValueError:
        found = []
    if not found:
        raise StampError("certificates: give the authority's certificates as a PEM file")
    return [*dict.fromkeys(found)]
