"""How long certificates are valid, as the library that makes them says; promring tells it of those that it shows."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from promring.runtime import certificates
from promring.runtime.certificates import Validity, in_use, note, validity
from promring.runtime.secretfile import tls_context
from promring.runtime.tls import TlsFiles
from promring.telemetry.certificates import CertificateTimes
from promring.web.access import Access
from tests.unit.test_web import running
from tests.waiting import until

RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    "rsa": RSA,
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
NOW = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)


def pem(begins: datetime, ends: datetime, key: str = "ec") -> bytes:
    parts = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"promring {n}") for n in range(20)]
    name = x509.Name(parts)  # lengths of several bytes
    made = x509.CertificateBuilder(name, name, RSA.public_key()).serial_number(x509.random_serial_number())
    made = made.not_valid_before(begins).not_valid_after(ends)
    made = made.add_extension(
        x509.SubjectAlternativeName([x509.DNSName(f"n{n}.example") for n in range(40)]), critical=False
    )
    signed = made.sign(KEYS[key], None if key == "ed25519" else hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("years", [-60, -1, 0, 1, 23, 24, 90])
def test_the_validity_is_what_the_maker_of_the_certificate_says(key: str, years: int) -> None:
    begins = NOW.replace(year=NOW.year + years)
    ends = begins + timedelta(days=400, seconds=17)
    assert validity(pem(begins, ends, key)) == Validity(ends.timestamp(), begins.timestamp())


def test_of_a_chain_the_one_counts_that_ends_first_and_text_around_does_not() -> None:
    later, sooner = pem(NOW, NOW + timedelta(days=30)), pem(NOW - timedelta(days=9), NOW + timedelta(days=3))
    expected = Validity((NOW + timedelta(days=3)).timestamp(), (NOW - timedelta(days=9)).timestamp())
    chain = b"\xff subject=CN = a\n" + later + b"# and\r\n" + sooner.replace(b"\n", b"\r\n")
    assert validity(chain) == validity(sooner + later) == expected
    key = RSA.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    assert validity(key + sooner + key) == expected
    assert validity(key) is None


def test_what_is_cut_off_or_damaged_anywhere_is_none_or_valid() -> None:
    whole = pem(NOW, NOW + timedelta(days=30))
    der = x509.load_pem_x509_certificate(whole).public_bytes(serialization.Encoding.DER)
    head, tail = b"-----BEGIN CERTIFICATE-----\n", b"\n-----END CERTIFICATE-----\n"
    for at in range(len(der)):
        assert validity(head + b64encode(der[:at]) + tail) is None
        for other in (0, 0x80, 0xFF):
            validity(head + b64encode(der[:at] + bytes([other]) + der[at + 1 :]) + tail)
    for text in (b"", b"=", b"A", b"AAAA=A", b"!"):
        assert validity(head + text + tail) is None
    assert validity(head + b64encode(der[:50]) + tail + whole) == validity(whole), "the others are still known"


@given(st.binary(max_size=300))
def test_any_bytes_are_taken(data: bytes) -> None:
    assert validity(data) is None


def issued(ca: trustme.CA, folder: Path, ends: datetime) -> None:
    leaf = ca.issue_cert("127.0.0.1", not_before=NOW, not_after=ends)
    leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))


async def test_the_certificate_of_a_client_is_told_and_the_next_one_after_it(tmp_path: Path) -> None:
    ca, path = trustme.CA(), str(tmp_path / "cert.pem")
    registry = CollectorRegistry()
    registry.register(CertificateTimes())
    for days in (3, 40):
        issued(ca, tmp_path, ends := NOW + timedelta(days=days))
        await tls_context(TlsFiles(cert_file=tmp_path / "cert.pem", key_file=tmp_path / "key.pem"))
        assert in_use()[path] == Validity(ends.timestamp(), NOW.timestamp())
        told = (
            registry.get_sample_value(f"promring_certificate_{what}_timestamp_seconds", {"path": path})
            for what in ("start", "expiry")
        )
        assert tuple(told) == (NOW.timestamp(), ends.timestamp())


def test_a_certificate_that_was_not_read_for_a_day_is_not_told_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1e6]
    monkeypatch.setattr(certificates, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(certificates, "_used", {})
    note(Path("/a.pem"), Validity(2.0, 1.0))
    clock[0] += certificates.USED_S
    note(Path("/b.pem"), Validity(3.0, 1.0))
    assert set(in_use()) == {"/a.pem", "/b.pem"}
    clock[0] += 1
    assert in_use() == {"/b.pem": Validity(3.0, 1.0)}
    for n in range(certificates.KEPT_MAX):
        note(Path(f"/{n}.pem"), Validity(3.0, 1.0))
    assert len(in_use()) == certificates.KEPT_MAX
    assert "/b.pem" not in in_use()


async def test_after_a_reload_only_those_are_told_that_are_read_again(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        note(Path("/gone.pem"), Validity(2.0, 1.0))
        await r.supervisor.reload()
        await until(lambda: "/gone.pem" not in in_use(), "it is told no more")


def test_the_certificate_of_the_port_is_told_and_after_a_reload_the_next_one(tmp_path: Path) -> None:
    ca = trustme.CA()
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")
    issued(ca, tmp_path, NOW + timedelta(days=3))
    access = Access(tmp_path / "web.yml")
    path = str(tmp_path / "cert.pem")
    assert access.certificates == {path: Validity((NOW + timedelta(days=3)).timestamp(), NOW.timestamp())}
    issued(ca, tmp_path, NOW + timedelta(days=90))
    access.reload()
    assert access.certificates[path].ends == (NOW + timedelta(days=90)).timestamp()
    assert Access().certificates == {}
