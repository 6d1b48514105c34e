"""What Mailchimp answers about an account's own settings: webhooks, anybody's campaigns, fields, interests.

Source: the Marketing API's public Swagger document, 3.0.55; for ``Automation`` the SDK, for the document has none.
"""

from __future__ import annotations

import msgspec

from connectors.mailchimp.answers import CampaignSettings, SegmentOptions


class Hook(msgspec.Struct):
    """A webhook of the audience.

    ``signing_secret``: only in the answer that creates one, and not in the public document (unconfirmed).
    """

    id: str
    url: str
    events: dict[str, bool] = {}
    sources: dict[str, bool] = {}
    signing_secret: str | None = None

    def __repr__(self) -> str:
        """Without the URL and the secret, which prove callbacks."""
        return f"Hook(id={self.id!r})"


class Hooks(msgspec.Struct):
    """All webhooks of the audience."""

    webhooks: list[Hook]


class Named(msgspec.Struct):
    """Whatever has an ID."""

    id: str


class Field(msgspec.Struct):
    """A merge field. ``public``: it stands on forms, where contacts and passers-by see and change it."""

    tag: str
    type: str = "text"
    required: bool = False
    public: bool = False


class SourceRecipients(msgspec.Struct):
    """Whom a campaign goes to, as far as it is said."""

    list_id: str = ""
    segment_opts: SegmentOptions | None = None


class SourceTracking(msgspec.Struct):
    """A campaign's tracking; what is not said is not off."""

    opens: bool = True


class Source(msgspec.Struct):
    """Any campaign, whoever made it and of whatever type: a field that it does not have is empty."""

    id: str
    type: str = ""
    status: str = ""
    recipients: SourceRecipients = msgspec.field(default_factory=SourceRecipients)
    settings: CampaignSettings = msgspec.field(default_factory=CampaignSettings)
    tracking: SourceTracking = msgspec.field(default_factory=SourceTracking)


class AnySegment(msgspec.Struct):
    """A segment of any type. ``type``: ``static``, or Mailchimp works its members out itself."""

    id: int
    name: str
    type: str = ""


class Category(msgspec.Struct):
    """A category of interests, which the interface calls a group category."""

    id: str


class Interest(msgspec.Struct):
    """An interest, which the interface calls a group."""

    name: str


class Automation(msgspec.Struct):
    """A classic automation."""

    id: str


class ListState(msgspec.Struct):
    """The audience's own settings."""

    double_optin: bool = False
    has_welcome: bool = False
