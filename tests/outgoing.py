"""What a server asks for while a test looks, and the addresses at which it must not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.callback_desk import Desk

PATH = "/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
HOST = "sns.eu-west-3.amazonaws.com"
ODD_ADDRESSES = {
    "userinfo": "https://{host}@{trap}{path}",
    "userinfo with a password": "https://{host}:443@{trap}{path}",
    "our host as a password": "https://a:{host}@{trap}{path}",
    "userinfo before our host": "https://a@{host}{path}",
    "encoded at sign": "https://{host}%40{trap}{path}",
    "backslash and at sign": "https://{host}\\@{trap}{path}",
    "backslash": "https://{trap}\\{host}{path}",
    "the usual port": "https://{host}:443{path}",
    "another port": "https://{host}:8443{path}",
    "an empty port": "https://{host}:{path}",
    "a suffix": "https://{host}.example.net{path}",
    "a suffix without a dot": "https://{host}-example.net{path}",
    "a subdomain": "https://x.{host}{path}",
    "a prefix without a dot": "https://evil{host}{path}",
    "another domain": "https://sns.eu-west-3.amazonaws.co{path}",
    "China's domain": "https://{host}.cn{path}",
    "another region": "https://sns.us-east-1.amazonaws.com{path}",
    "another service": "https://s3.eu-west-3.amazonaws.com{path}",
    "a bucket named like it": "https://s3.amazonaws.com/{host}{path}",
    "no region": "https://sns.amazonaws.com{path}",
    "a Cyrillic letter": "https://sns.eu-west-3.\u0430mazonaws.com{path}",
    "full width": "https://\uff53ns.eu-west-3.amazonaws.com{path}",
    "an ideographic dot": "https://sns\u3002eu-west-3.amazonaws.com{path}",
    "an encoded dot": "https://sns%2Eeu-west-3.amazonaws.com{path}",
    "a trailing dot": "https://{host}.{path}",
    "upper case": "https://SNS.EU-WEST-3.AMAZONAWS.COM{path}",
    "the scheme in upper case": "HTTPS://{host}{path}",
    "plain http": "http://{host}{path}",
    "plain http to the trap": "http://{trap}{path}",
    "the trap": "https://{trap}{path}",
    "no scheme": "//{trap}{path}",
    "a path alone": "{path}",
    "nothing": "",
    "IPv4": "https://127.0.0.1{path}",
    "IPv4 as a number": "https://2130706433{path}",
    "IPv4 in octal": "https://0177.0.0.1{path}",
    "IPv4 in hexadecimal": "https://0x7f.1{path}",
    "IPv6": "https://[::1]{path}",
    "IPv4 in IPv6": "https://[::ffff:127.0.0.1]{path}",
    "a broken IPv6": "https://[::1{path}",
    "the instance's metadata": "http://169.254.169.254/latest/meta-data/",
    "a file": "file:///etc/passwd",
    "gopher": "gopher://{trap}/_x",
    "data": "data:text/plain,x",
    "a query": "https://{host}{path}?to={trap}",
    "a fragment": "https://{host}{path}#x",
    "a parameter": "https://{host}{path};x",
    "a folder": "https://{host}/x{path}",
    "a folder up": "https://{host}/x/..{path}",
    "two slashes": "https://{host}/{path}",
    "an encoded path": "https://{host}/%53impleNotificationService-0123456789abcdef.pem",
    "another path": "https://{host}/x.pem",
    "another ending": "https://{host}{path}.txt",
    "upper-case digits": "https://{host}/SimpleNotificationService-ABCDEF.pem",
    "a very long name": "https://{host}/SimpleNotificationService-" + "a" * 65 + ".pem",
    "a space before": " https://{host}{path}",
    "a line end after": "https://{host}{path}\n",
    "a tab inside": "https://sns.eu-west-3.amazo\tnaws.com{path}",
    "NUL": "https://{host}\x00{path}",
    "CRLF": "https://{host}{path}\r\nHost: {trap}",
    "half a surrogate pair": "https://{host}{path}\ud800",
}
"""Of a certificate, by what is wrong with them. ``host``: SNS's own; ``trap``: somebody else's."""


@dataclass
class Trap:
    """Listens where nobody may ask, and notes which other places this process asks for while it is armed."""

    listener: socket.socket
    armed: bool = False
    asked: list[str] = field(default_factory=list)
    allowed: set[object] = field(default_factory=set)

    @property
    def place(self) -> str:
        """Host and port."""
        host, port = self.listener.getsockname()
        return f"{host}:{port}"

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        """See ``sys.addaudithook``."""
        if self.armed and event in {"socket.connect", "socket.getaddrinfo"}:
            where = arguments[1] if event == "socket.connect" else arguments[:2]
            if where not in self.allowed:
                self.asked.append(f"{event} {where}")

    def untouched(self) -> bool:
        """Whether nobody came, and nobody was asked."""
        self.listener.settimeout(0)
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return not self.asked
        return False

    @contextmanager
    def watching(self, team: Desk, *, simulator: bool = False) -> Iterator[None]:
        """Note everything but what the test itself asks, and the simulator where it may be asked."""
        urls = [str(team.client.base_url), *([team.simulator.base_url] if simulator else [])]
        self.allowed = {(parts.hostname, parts.port) for parts in map(urlsplit, urls)}
        self.asked.clear()
        self.armed = True
        try:
            yield
        finally:
            self.armed = False
