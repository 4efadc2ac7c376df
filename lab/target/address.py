"""Where a target listens: an address with TLS, a base path and headers that go with every request."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Address:
    """``url`` is ``http[s]://host[:port][/base]``; ``headers`` go with every request unless it sets them itself.

    ``ca`` is a file of certificates to trust instead of the system's, ``verify`` False trusts any.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    ca: str = ""
    verify: bool = True

    @property
    def host(self) -> str:
        """The host's name or number."""
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """The port, the scheme's own where none is named."""
        return urlsplit(self.url).port or (443 if self.tls else 80)

    @property
    def authority(self) -> str:
        """What the Host header says."""
        return urlsplit(self.url).netloc

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return urlsplit(self.url).scheme == "https"

    @property
    def base(self) -> str:
        """What stands before every path, without a slash at its end."""
        return urlsplit(self.url).path.rstrip("/")

    @cached_property
    def context(self) -> ssl.SSLContext | None:
        """How to encrypt; None where nothing is.  HTTP/1.1 is all that is offered.  Raises OSError where ``ca`` cannot be read."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.ca or None)
        context.set_alpn_protocols(["http/1.1"])
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


def address_of(where: "str | Address") -> Address:
    """An address; a URL alone stands for one without anything else."""
    return where if isinstance(where, Address) else Address(where)
