"""The peer: django-anymail's view for SendGrid's callbacks, and a receiver that stores each event.

Runs in the peers' environment. ``DB`` and ``KEY`` in the environment: the database's file, and the verification key.
One transaction a request, begun IMMEDIATE, and INSERT OR IGNORE: with Django's defaults it is several times slower.
"""

# mypy: ignore-errors
# ruff: noqa: INP001 - a program, run where the product is not
from __future__ import annotations

import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="-",  # noqa: S106 - nothing is signed with it
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["anymail"],
    USE_TZ=True,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    ANYMAIL={"SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY": os.environ["KEY"]},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["DB"],
            "CONN_MAX_AGE": None,
            "ATOMIC_REQUESTS": True,
            "OPTIONS": {
                "timeout": 30,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
            },
        }
    },
)
django.setup()

from anymail.signals import tracking  # noqa: E402 - after the set-up
from anymail.webhooks.sendgrid import SendGridTrackingWebhookView  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.dispatch import receiver  # noqa: E402
from django.urls import path  # noqa: E402


class Event(models.Model):
    """What is stored of an event."""

    event_id = models.CharField(max_length=100, unique=True)
    event_type = models.CharField(max_length=20)
    recipient = models.CharField(max_length=254)
    timestamp = models.DateTimeField(null=True)
    message_id = models.CharField(max_length=200, null=True)  # noqa: DJ001 - as anymail gives it

    class Meta:
        """The table's name."""

        app_label = "hooks"
        db_table = "event"

    def __str__(self) -> str:
        return self.event_type


@receiver(tracking)
def store(sender, event, esp_name, **_more) -> None:  # noqa: ANN001, ANN003, ARG001 - as anymail calls it
    """Store one event; a repetition is ignored."""
    Event.objects.bulk_create(
        [
            Event(
                event_id=event.event_id,
                event_type=event.event_type,
                recipient=event.recipient,
                timestamp=event.timestamp,
                message_id=event.message_id,
            )
        ],
        ignore_conflicts=True,
    )


def make_tables() -> None:
    """Make the table."""
    with connection.schema_editor() as editor:
        editor.create_model(Event)


urlpatterns = [path("hook", SendGridTrackingWebhookView.as_view())]
app = get_wsgi_application()
