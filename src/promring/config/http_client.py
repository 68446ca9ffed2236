"""How promring asks somebody by HTTP, as a configuration says it."""

from __future__ import annotations

from promring.config.values import AbsolutePath, Model
from promring.runtime.tls import TlsFiles


class Tls(Model):
    """Files of TLS, read again when they are used."""

    ca_file: AbsolutePath | None = None
    cert_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False

    def files(self) -> TlsFiles:
        return TlsFiles(self.ca_file, self.cert_file, self.key_file, self.server_name, self.insecure_skip_verify)
