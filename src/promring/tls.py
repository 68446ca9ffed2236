"""The files of a TLS connection, as the configuration names them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths as in the configuration's ``tls``. A running adapter reads them by ``secretfile.tls_context``, beside the
    loop.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.ca_file, self.cert_file, self.key_file) if path is not None]

    def context(self) -> ssl.SSLContext:
        """Verified by default, TLS 1.2 or newer. Raises OSError or ssl.SSLError, naming nothing secret. Blocks: reads
        files.
        """
        made = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file:
            made.load_cert_chain(self.cert_file, self.key_file)
        if self.insecure_skip_verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made
