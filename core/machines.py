"""What fetched an image, by its user agent: the family of the program, and whether it was a machine.

Mail services and scanners fetch the images of a mail whether or not anybody reads it; such an open is kept apart from
those of people. Nothing of a user agent is kept but the family: no version, no system, no device.

Sources, all read second-hand, so every sign below is *unconfirmed* but for those that several senders report alike:

- Apple Mail Privacy Protection: SocketLabs, "Identifying Apple MPP opens in Notification API events"; Groundhogg's and
  other senders' source code test for the same bare string.
- Gmail: SparkPost (Bird), "Gmail is Prefetching Images"; the image proxy's "(via ggpht.com GoogleImageProxy)".
- Yahoo: the user agent names its own page, help.yahoo.com/kb/SLN28749.html.
- Scanners: suped.com, "How can I identify bot user agents in my email click data"; Live Direct Marketing, "Bot clicks
  from security scanners"; the lists in the sources of several open-source mailers. Many scanners pass themselves off
  as browsers and cannot be told by this.
- Mail programs: Matomo's Device Detector; Microsoft Learn, "Secure Outlook for iOS and Android" (``Outlook-iOS/2.0``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LONGEST = 1024
"""Characters of a user agent that are looked at. Genuine ones have a few hundred at most."""


@dataclass(frozen=True, slots=True)
class Client:
    """What fetched an image.

    Attributes:
        family: ``gmail-proxy``, ``thunderbird`` …; ``other`` for what the tables do not know, "" when nothing was said.
        machine: Whether no person needs to have been there.
    """

    family: str
    machine: bool


WHOLE: Mapping[str, str] = {
    # Fetches every image whether or not anybody reads; also when the mail was opened, which cannot be told apart.
    "mozilla/5.0": "apple-mail-privacy",
    # Before the mail is shown; no browser has the last word behind Edge's version.
    "mozilla/5.0 (windows nt 10.0; win64; x64) applewebkit/537.36 (khtml, like gecko) chrome/42.0.2311.135"
    " safari/537.36 edge/12.246 mozilla/5.0": "gmail-prefetch",
}
"""Families of machines by their whole user agent, in lower case."""

MACHINES: Mapping[str, str] = {
    # Mail services that fetch images for their users, or before them.
    "googleimageproxy": "gmail-proxy",
    "ggpht.com": "gmail-proxy",
    "yahoomailproxy": "yahoo-proxy",
    "yahoocachesystem": "yahoo-proxy",
    "heyimageproxy": "hey-proxy",
    "duckduckgo-email": "duckduckgo-proxy",
    # Microsoft's scanners and previews. Office without the name of a program is its service, or its Safe Links.
    "(compatible; ms-office; msoffice": "microsoft-office",
    "office existence discovery": "microsoft-office",
    "office protocol discovery": "microsoft-office",
    "safelinks": "microsoft-scanner",
    "microsoft-defender": "microsoft-scanner",
    "microsoft exchange": "microsoft-scanner",
    "bingpreview": "microsoft-preview",
    "microsoftpreview": "microsoft-preview",
    "skypeuripreview": "microsoft-preview",
    # Mail security gateways.
    "barracuda": "barracuda",
    "proofpoint": "proofpoint",
    "urldefense": "proofpoint",
    "mimecast": "mimecast",
    "messagelabs": "symantec",
    "symantec": "symantec",
    "trendmicro": "trend-micro",
    "trend micro": "trend-micro",
    "ironport": "cisco",
    "ciscosecureemail": "cisco",
    "cisco-secure": "cisco",
    "sophos": "sophos",
    "fortinet": "fortinet",
    "fortimail": "fortinet",
    "forcepoint": "forcepoint",
    "zscaler": "zscaler",
    "fireeye": "trellix",
    "checkpoint": "check-point",
    "cloudmark": "cloudmark",
    "hornetsecurity": "hornetsecurity",
    "mailscanner": "scanner",
    "linkscanner": "scanner",
    # Browsers that nobody looks at.
    "headless": "headless",
    "phantomjs": "headless",
    "puppeteer": "headless",
    "playwright": "headless",
    "selenium": "headless",
    # Whatever calls itself a robot. Cubot is a maker of telephones, whose name stands in Android browsers.
    "bot/": "bot",
    "bot;": "bot",
    "bot)": "bot",
    "bot-": "bot",
    "-bot": "bot",
    "robot": "bot",
    "googlebot": "bot",
    "crawler": "bot",
    "spider": "bot",
    "slurp": "bot",
    "facebookexternalhit": "bot",
    "mediapartners-google": "bot",
    "google-safety": "bot",
    "google-read-aloud": "bot",
    "linkpreview": "bot",
    # Programs' own HTTP libraries.
    "curl/": "http-library",
    "wget": "http-library",
    "python-": "http-library",
    "python/": "http-library",
    "aiohttp": "http-library",
    "go-http-client": "http-library",
    "java/": "http-library",
    "jetty": "http-library",
    "apache-httpclient": "http-library",
    "okhttp": "http-library",
    "axios": "http-library",
    "node-fetch": "http-library",
    "undici": "http-library",
    "libwww": "http-library",
    "lua-resty-http": "http-library",
    "guzzlehttp": "http-library",
    "winhttp": "http-library",
    "ahc/": "http-library",
    "postmanruntime": "http-library",
    "amazon cloudfront": "http-library",
}
"""Families of machines by a part of their user agent, in lower case; the first that is found stands."""

PEOPLE: Mapping[str, str] = {
    # Programs for mail first: they carry a browser's words as well.
    "microsoft outlook": "outlook",
    "outlook-ios": "outlook",
    "outlook-android": "outlook",
    "outlook-express": "outlook",
    "macoutlook": "outlook",
    "windowsmail": "outlook",
    "msoffice": "outlook",
    "thunderbird": "thunderbird",
    "icedove": "thunderbird",
    "samsungemail": "samsung-mail",
    "samsung email": "samsung-mail",
    "sec email": "samsung-mail",
    "yahoomobile": "yahoo-mail",
    "yahoo mail": "yahoo-mail",
    "ymail": "yahoo-mail",
    "gmail": "gmail-app",
    "protonmail": "proton-mail",
    "airmail": "airmail",
    "sparkdesktop": "spark",
    "superhuman": "superhuman",
    "evolution/": "evolution",
    "kmail": "kmail",
    "postbox": "postbox",
    "em client": "em-client",
    "lotus-notes": "notes",
    "lotus notes": "notes",
    "roundcube": "roundcube",
    "apple mail": "apple-mail",
    # Browsers, those first whose user agents name others too.
    "samsungbrowser": "samsung-internet",
    "edg/": "edge",
    "edge/": "edge",
    "edga/": "edge",
    "edgios/": "edge",
    "opr/": "opera",
    "opera/": "opera",
    "vivaldi": "vivaldi",
    "yabrowser": "yandex-browser",
    "ucbrowser": "uc-browser",
    "duckduckgo": "duckduckgo",
    "firefox": "firefox",
    "fxios": "firefox",
    "chrome": "chrome",
    "crios": "chrome",
    "safari": "safari",
    "trident": "internet-explorer",
    "msie": "internet-explorer",
    # WebKit on Apple's systems without a browser's name is a view inside of a program, mostly Mail.
    "applewebkit": "apple-mail",
    "cfnetwork": "apple-mail",
}
"""Families of what people read with by a part of the user agent, in lower case; the first that is found stands."""

UNSAID = Client("", machine=False)
"""Nothing was said. ESPs often leave the user agent out and some proxies hide it, so it points to neither kind."""
OTHER = Client("other", machine=False)

_WHOLE = {text: Client(family, machine=True) for text, family in WHOLE.items()}
_PARTS = (
    *((part, Client(family, machine=True)) for part, family in MACHINES.items()),
    *((part, Client(family, machine=False)) for part, family in PEOPLE.items()),
)
_CUBOT = "cubot"


def client_of(user_agent: str) -> Client:
    """The family behind a user agent, in a time that its length does not raise. Nothing of the text is kept."""
    text = user_agent[:LONGEST].strip().lower()
    if not text:
        return UNSAID
    whole = _WHOLE.get(text)
    if whole is not None:
        return whole
    if _CUBOT in text:
        text = text.replace(_CUBOT, "")
    for part, client in _PARTS:
        if part in text:
            return client
    return OTHER
