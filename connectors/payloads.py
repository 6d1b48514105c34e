"""What codecs do to payloads that are almost JSON."""

from __future__ import annotations


def mended(value: object) -> object:
    """A decoded JSON value with the halves of surrogate pairs in its strings replaced: text that can be encoded."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [mended(each) for each in value]
    if isinstance(value, dict):
        return {mended(key): mended(each) for key, each in value.items()}
    return value
