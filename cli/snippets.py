"""``pixelproof snippets``: ready-made pieces for templates and sign-up pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.output import Config, Json, emit, services
from connectors import provider as provider_of
from core.errors import InputError
from core.merge_fields import MergeSyntax
from core.settings import campaign_id
from webhooks.assembly import Services
from webhooks.snippets import CAMPAIGN, Kind, Sender, Snippets

Provider = Annotated[str, typer.Option("--provider", help="The ESP whose template language they are written in.")]
Kinds = Annotated[list[Kind] | None, typer.Option("--kind", help="Only this one; may be given several times.")]
Language = Annotated[
    str | None, typer.Option("--language", help="Of the texts (else the settings' default).", show_default=False)
]
Template = Annotated[
    str | None,
    typer.Option("--template", help="The ESP's kind of template, such as single-send at SendGrid.", show_default=False),
]
CampaignId = Annotated[
    str, typer.Option("--campaign", help="The id of the campaign whose opens the pixel reports.", show_default=False)
]
Folder = Annotated[
    Path | None, typer.Option("--dir", help="Write them into this folder.", file_okay=False, show_default=False)
]


def snippets(
    provider: Provider,
    kind: Kinds = None,
    language: Language = None,
    template: Template = None,
    campaign: CampaignId = CAMPAIGN,
    folder: Folder = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Print the asking mail, the footer, the pixels and the form, in an ESP's template language. Changes nothing."""
    syntax = _syntax(provider, template)
    if campaign != CAMPAIGN:
        campaign_id(campaign)
    with services(config) as s:
        maker = _maker(s, language, campaign)
    made = {name: text for each in kind or [*Kind] for name, text in maker.make(each, syntax).items()}
    if folder is not None:
        _write(folder, made)
    emit({"snippets": made}, as_json=as_json, show=lambda console: _show(console, made, folder))


def _syntax(provider: str, template: str | None) -> MergeSyntax:
    known = provider_of(provider).templates
    if template is None:
        return next(iter(known.values()))
    if template not in known:
        raise InputError(f"--template: {provider} has the kinds {', '.join(known)}")
    return known[template]


def _maker(s: Services, language: str | None, campaign: str) -> Snippets:
    from webhooks.app import page_settings
    from webhooks.pages import Pages

    pages, settings = Pages(page_settings(s)), s.settings
    chosen = language or settings.default_language
    if chosen not in pages.languages:
        raise InputError(f"--language: there are {', '.join(pages.languages)}")
    sender = Sender(settings.sender.name, settings.base_url, settings.sender.accent, campaign)
    return Snippets(sender, pages.notice(chosen))


def _write(folder: Path, made: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise InputError(f"--dir: {error.strerror}") from None


def _show(console: Console, made: dict[str, str], folder: Path | None) -> None:
    """The texts as they are, so that one can be piped into a file; headed when there are several."""
    if folder is not None:
        console.print(f"Written: {', '.join(str(folder / name) for name in made)}", soft_wrap=True, markup=False)
        return
    for name, text in made.items():
        if len(made) > 1:
            console.rule(name, align="left")
        console.out(text, end="", highlight=False)
