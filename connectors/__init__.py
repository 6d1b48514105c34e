"""One module (or folder) for each e-mail service provider, found by looking: nothing else names them.

A module that ends in ``PROVIDER = Provider(...)`` is a provider. Importing one imports no SDK: those are
imported when a connector is built, because the callback path must start fast and without them.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from core.errors import SettingsError
from core.ports import Provider

_SHARED = frozenset({"limits", "payloads", "retry", "simulators"})
"""What providers have in common: not looked at, for it brings along what the callback path does not need."""


@cache
def providers() -> dict[str, Provider]:
    """Every provider in this package, by name."""
    found = {}
    for name in sorted({info.name for info in pkgutil.iter_modules(__path__)} - _SHARED):
        provider = getattr(import_module(f"{__name__}.{name}"), "PROVIDER", None)
        if isinstance(provider, Provider):
            found[provider.name] = provider
    return found


def provider(name: str) -> Provider:
    """The provider of that name; raises SettingsError when there is none."""
    try:
        return providers()[name]
    except KeyError:
        known = ", ".join(sorted(providers()))
        raise SettingsError(f"providers.{name}: no such provider; known are {known}") from None
