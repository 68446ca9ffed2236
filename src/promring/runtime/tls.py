"""The files of a TLS connection, as the configuration names them."""

from __future__ import annotations

import errno
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
    ca_folder: Path | None = None
    """All certificates in it, whatever their names, when there is no ``ca_file``."""
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    newest: ssl.TLSVersion | None = None

    @property
    def paths(self) -> list[Path]:
        """Every file that makes the context. Raises OSError when there is no certificate in the folder. Blocks."""
        authorities = [self.ca_file] if self.ca_file or not self.ca_folder else _files_in(self.ca_folder)
        return [path for path in (*authorities, self.cert_file, self.key_file) if path is not None]

    def context(self) -> ssl.SSLContext:
        """Verified by default. Raises OSError or ssl.SSLError, naming nothing secret. Blocks: reads
        files.
        """
        if self.ca_folder and not self.ca_file:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # OpenSSL's own way wants names that are hashes
            for path in _files_in(self.ca_folder):
                made.load_verify_locations(cafile=path)
        else:
            made = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        made.minimum_version = self.oldest
        if self.newest is not None:
            made.maximum_version = self.newest
        if self.cert_file:
            made.load_cert_chain(self.cert_file, self.key_file, password="")  # else it asks on the terminal
        if self.insecure_skip_verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made


def _files_in(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if not files:
        raise FileNotFoundError(errno.ENOENT, "no certificate in the folder", str(folder))
    return files
