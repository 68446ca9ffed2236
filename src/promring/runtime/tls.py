"""The files of a TLS connection, as the configuration names them, or the texts that it has in their place."""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from promring.runtime.certificates import AUTHORITY, CERTIFICATE, Place, Validity, told
from promring.runtime.redact import Secret


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
    ca: Secret | None = None
    """PEM in place of the file, like ``cert`` and ``key``."""
    cert: Secret | None = None
    key: Secret | None = None
    called: tuple[tuple[Path, str], ...] = ()
    """What people call a file of ours that holds what stands somewhere else."""

    @property
    def paths(self) -> list[Path]:
        """Every file that makes the context. Raises OSError when there is no certificate in the folder. Blocks."""
        authorities = [self.ca_file] if self.ca_file or not self.ca_folder else _files_in(self.ca_folder)
        return [path for path in (*authorities, self.cert_file, self.key_file) if path is not None]

    def told(self, contents: Mapping[Path, bytes]) -> dict[Place, Validity]:
        """How long the certificate and the authorities are valid, of these files with these ``contents``."""
        found: dict[Place, Validity] = {}
        called = dict(self.called)
        if self.cert_file is not None:
            found |= told(called.get(self.cert_file, str(self.cert_file)), CERTIFICATE, contents[self.cert_file])
        if self.ca_file is not None and not self.insecure_skip_verify:
            found |= told(called.get(self.ca_file, str(self.ca_file)), AUTHORITY, contents[self.ca_file])
        elif self.ca_folder is not None and not self.insecure_skip_verify:
            every = b"".join(pem for path, pem in contents.items() if path not in (self.cert_file, self.key_file))
            found |= told(str(self.ca_folder), AUTHORITY, every)
        return found

    def context(self) -> ssl.SSLContext:
        """Verified by default. Raises OSError or ssl.SSLError, naming nothing secret. Blocks: reads
        files.
        """
        if self.ca_folder and not self.ca_file:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # OpenSSL's own way wants names that are hashes
            for path in _files_in(self.ca_folder):
                made.load_verify_locations(cafile=path)
        else:
            given = self.ca.reveal() if self.ca else None
            made = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None, cadata=given)
        made.minimum_version = self.oldest
        if self.newest is not None:
            made.maximum_version = self.newest
        with _file_of(self.cert, self.cert_file) as cert, _file_of(self.key, self.key_file) as key:
            if cert is not None:
                made.load_cert_chain(cert, key, password="")  # else it asks on the terminal
        if self.insecure_skip_verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made


@contextlib.contextmanager
def _file_of(text: Secret | None, file: Path | None) -> Iterator[Path | None]:
    """A path that OpenSSL can read: of ``file``, or of memory that holds ``text``."""
    if text is None:
        yield file
        return
    with open(os.memfd_create("pem", os.MFD_CLOEXEC), "wb") as memory:
        memory.write(text.reveal().encode())
        memory.flush()
        yield Path(f"/proc/self/fd/{memory.fileno()}")


def _files_in(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if not files:
        raise FileNotFoundError(errno.ENOENT, "no certificate in the folder", str(folder))
    return files
