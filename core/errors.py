"""Every error that this project raises on purpose.

    PixelproofError
    ├── SettingsError          a setting or a file of the user's is wrong            (exit 2)
    │   ├── KeyMissing         no callback can be verified yet: no key of the provider's
    │   ├── PolicyError        a policy file breaks its own rules
    │   └── NoticeError        a notice is missing, incomplete or was altered
    ├── InputError             an address, an event, a row cannot be taken           (exit 2)
    │   └── AddressError       not an e-mail address
    ├── TokenError             a link was altered, is foreign or revoked
    ├── CallbackError          a webhook request cannot be taken
    │   ├── VerificationError  not proven to come from the provider
    │   └── PayloadError       proven, but not what the provider documents
    ├── StoreError             the store is out of reach or damaged                  (exit 3)
    │   ├── HeadConflict       somebody else appended first; read again and retry
    │   ├── BatchTooLarge      more than the store writes at once; cut it
    │   └── DamagedState       one recipient's stored state cannot be read
    ├── PlanError              a campaign cannot lawfully be sent as declared        (exit 1)
    └── ProviderError          an ESP failed or refused                              (exit 3)
        ├── ProviderRefused    the ESP refused the request; repeating it is no use
        └── AmbiguousOutcome   the request left, the answer did not come back

Messages name the provider and the setting and say what to do next. They never carry an address, a token,
a key or a payload: whoever raises one of these makes sure of it.
"""


class PixelproofError(Exception):
    """The base of all errors of this project."""


class SettingsError(PixelproofError):
    """A setting, or a file that the settings name, is wrong."""


class KeyMissing(SettingsError):
    """No key with which a provider's callbacks could be verified; installing its webhook gives one."""


class PolicyError(SettingsError):
    """A policy file breaks its own rules."""


class NoticeError(SettingsError):
    """A notice is missing, incomplete or was altered since it was published."""


class InputError(PixelproofError):
    """Something that a person or a system handed in cannot be taken."""


class AddressError(InputError):
    """Not an e-mail address. The message never repeats it."""


class TokenError(PixelproofError):
    """A link or pixel token was altered, is foreign or revoked."""


class CallbackError(PixelproofError):
    """A webhook request cannot be taken."""


class VerificationError(CallbackError):
    """Not proven to come from the provider: forged, stale, or signed with an unknown key.

    Attributes:
        transient: Whether the proof was merely out of reach (a certificate could not be fetched). The provider must
            then be asked to deliver again (5xx): a genuine withdrawal must not be lost.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class PayloadError(CallbackError):
    """Proven to come from the provider, but not of the documented form."""


class StoreError(PixelproofError):
    """The store is out of reach or damaged."""


class HeadConflict(StoreError):
    """Somebody else appended to the same chain first: read the head again and retry."""


class BatchTooLarge(StoreError):
    """A batch holds more than the store writes at once. Nothing of it was written; cut it and write the parts.

    Attributes:
        parts: In how many equal parts it would about fit.
    """

    def __init__(self, parts: int) -> None:
        super().__init__("more than the store writes at once; hand it in in smaller parts")
        self.parts = parts


class LogMismatch(StoreError):
    """The ledger is not what was signed before: it was altered, cut short or replaced, or the log was."""


class DamagedState(StoreError):
    """One recipient's stored state cannot be read; that of others may be sound."""


class PlanError(PixelproofError):
    """A campaign cannot lawfully be sent in the way that it is declared."""


class ProviderError(PixelproofError):
    """An ESP failed, refused, or is out of reach.

    Attributes:
        provider: Its name, as in the settings.
        status: The HTTP status of its answer, if there was one.
    """

    def __init__(self, provider: str, message: str, *, status: int | None = None) -> None:
        super().__init__(f"{provider}: {message}")
        self.provider = provider
        self.status = status


class ProviderRefused(ProviderError):
    """The ESP refused the request; repeating it unchanged is of no use."""


class AmbiguousOutcome(ProviderError):
    """The request left, but no answer came back: it may or may not have been carried out."""
