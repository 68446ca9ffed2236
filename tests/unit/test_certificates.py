"""How long certificates are valid, as the library that makes them says; promring tells it of those that it shows."""

from __future__ import annotations

import base64
import json
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from promring.config.kinds import Sections
from promring.config.load import load_with_lines
from promring.kubernetes.access import KubernetesSection
from promring.kubernetes.client import connected
from promring.runtime import certificates
from promring.runtime.certificates import AUTHORITY, CERTIFICATE, Place, Validity, in_use, note, told
from promring.runtime.secretfile import tls_context
from promring.runtime.tls import TlsFiles
from promring.telemetry.certificates import CertificateTimes
from promring.web.access import Access
from tests.unit.test_kubernetes import kubeconfig
from tests.unit.test_web import running
from tests.waiting import until

RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    "rsa": RSA,
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
NOW = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)


def validity(pem: bytes, kind: str = CERTIFICATE) -> Validity | None:
    return told("/a.pem", kind, pem).get(Place("/a.pem", kind))


def until_in(days: float) -> Validity:
    """Of a certificate that ``issued`` made."""
    return Validity((NOW + timedelta(days=days)).timestamp(), NOW.timestamp())


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
    assert validity(sooner + later + sooner, AUTHORITY) == validity(later), "of authorities the last one counts"


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


def told_by(own: Callable[[], Mapping[Place, Validity]] = dict) -> dict[tuple[str, str], tuple[float, float]]:
    """By path and kind, what the metrics say: end and begin."""
    ends, begins = CertificateTimes(own).collect()
    return {
        (end.labels["path"], end.labels["kind"]): (end.value, begin.value)
        for end, begin in zip(ends.samples, begins.samples, strict=True)
    }


async def test_the_certificate_of_a_client_is_told_and_the_next_one_after_it(tmp_path: Path) -> None:
    ca, path = trustme.CA(), str(tmp_path / "cert.pem")
    for days in (3, 40):
        issued(ca, tmp_path, NOW + timedelta(days=days))
        await tls_context(TlsFiles(cert_file=tmp_path / "cert.pem", key_file=tmp_path / "key.pem"))
        expected = until_in(days)
        assert in_use()[Place(path, CERTIFICATE)] == expected
        assert told_by()[path, CERTIFICATE] == (expected.ends, expected.begins)


async def test_authorities_in_a_file_or_folder_are_told_by_the_last_that_ends_and_not_those_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_used", {})
    old, new = pem(NOW, NOW + timedelta(days=3)), pem(NOW, NOW + timedelta(days=900))
    folder = tmp_path / "folder"
    folder.mkdir()
    for path, text in ((folder / "old.pem", old), (folder / "new.crt", new), (tmp_path / "ca.pem", new + old)):
        path.write_bytes(text)
    (tmp_path / "unused.pem").write_bytes(old)
    await tls_context(TlsFiles())
    await tls_context(TlsFiles(tmp_path / "unused.pem", insecure_skip_verify=True))
    assert in_use() == {}
    await tls_context(TlsFiles(tmp_path / "ca.pem"))
    await tls_context(TlsFiles(ca_folder=folder))
    expected = {Place(str(path), AUTHORITY): until_in(900) for path in (tmp_path / "ca.pem", folder)}
    assert in_use() == expected
    issued(trustme.CA(), tmp_path, NOW + timedelta(days=3))
    await tls_context(TlsFiles(tmp_path / "cert.pem", tmp_path / "cert.pem", tmp_path / "key.pem"))
    assert [kind for path, kind in told_by() if path.endswith("cert.pem")] == [CERTIFICATE], "what is both is told once"


def test_the_bundle_of_the_system_ends_in_many_years() -> None:
    """It has authorities that are over, or soon will be."""
    paths = ssl.get_default_verify_paths()
    bundle = Path(paths.cafile or "/etc/ssl/certs/ca-certificates.crt")
    if not bundle.exists():
        pytest.skip("this system has none")
    valid = validity(bundle.read_bytes(), AUTHORITY)
    assert valid is not None
    assert valid.ends > time.time() + 5 * 365 * 86400


def test_a_path_that_is_no_text_is_told_too() -> None:
    """Else all metrics would be an error."""
    odd = {Place("/etc/\udcff.pem", AUTHORITY): until_in(1)}
    registry = CollectorRegistry()
    registry.register(CertificateTimes(lambda: odd))
    assert rb"/etc/\\udcff.pem" in generate_latest(registry)


HTTP = {"url": "https://a.test/"}


def test_what_stands_in_a_configuration_is_told_by_its_place_and_once(tmp_path: Path) -> None:
    ca = trustme.CA()
    issued(ca, tmp_path, NOW + timedelta(days=3))
    cert, key = ((tmp_path / name).read_text() for name in ("cert.pem", "key.pem"))
    authority = ca.cert_pem.bytes().decode()
    tls = {"ca": authority, "cert": cert, "key": key}
    unverified = {"ca": pem(NOW, NOW + timedelta(days=1)).decode(), "insecure_skip_verify": True}
    sources = [{"http": HTTP | {"tls_config": tls}}, {"http": {"url": "https://b.test/", "tls_config": unverified}}]
    fleet = {"name": "f", "scrapers": {"probe": {"nodes": ["a:1"]}}, "delivery": [{"http_sd": {}}]}
    fleet["scraper_api"] = {"scheme": "https", "tls_config": {"ca": pem(NOW, NOW + timedelta(days=9)).decode()}}
    services = [{"name": name, "fleet": "f", "targets": sources} for name in ("x", "y")]
    (tmp_path / "promring.yml").write_text(json.dumps({"fleets": [fleet], "shard_services": services}))
    found = load_with_lines(tmp_path / "promring.yml").certificates
    name = f"{tmp_path}/promring.yml"
    assert {place: valid for place, valid in found.items() if "x" not in place.path} == {
        Place(f"{name}: fleets[f].scraper_api.tls_config.ca", AUTHORITY): until_in(9)
    }
    source = f"{name}: shard_services[x].targets[0].tls_config"
    assert found[Place(f"{source}.cert", CERTIFICATE)] == until_in(3)
    assert set(found) - {Place(f"{name}: fleets[f].scraper_api.tls_config.ca", AUTHORITY)} == {
        Place(f"{source}.cert", CERTIFICATE),
        Place(f"{source}.ca", AUTHORITY),
    }


async def test_what_a_kubeconfig_holds_is_told_by_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "_used", {})
    ca = trustme.CA()
    issued(ca, tmp_path, NOW + timedelta(days=3))
    texts = {"ca": ca.cert_pem.bytes(), **{name: (tmp_path / f"{name}.pem").read_bytes() for name in ("cert", "key")}}
    inline = {name: base64.b64encode(text).decode() for name, text in texts.items()}
    path = kubeconfig(
        tmp_path,
        cluster={"certificate-authority-data": inline["ca"]},
        user={"client-certificate-data": inline["cert"], "client-key-data": inline["key"]},
    )
    async with connected(Sections([KubernetesSection(kubeconfig=path)])) as made:
        await tls_context(made.access.tls)
    assert set(in_use()) == {
        Place(f"{path}: certificate-authority-data", AUTHORITY),
        Place(f"{path}: client-certificate-data", CERTIFICATE),
    }


def test_a_certificate_that_was_not_read_for_a_day_is_not_told_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1e6]
    monkeypatch.setattr(certificates, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(certificates, "_used", {})
    a, b = Place("/a.pem", CERTIFICATE), Place("/b.pem", AUTHORITY)
    note(a, Validity(2.0, 1.0))
    clock[0] += certificates.USED_S
    note(b, Validity(3.0, 1.0))
    assert set(in_use()) == {a, b}
    clock[0] += 1
    assert in_use() == {b: Validity(3.0, 1.0)}
    for n in range(certificates.KEPT_MAX):
        note(Place(f"/{n}.pem", CERTIFICATE), Validity(3.0, 1.0))
    assert len(in_use()) == certificates.KEPT_MAX
    assert b not in in_use()


async def test_after_a_reload_only_those_are_told_that_are_read_again(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        gone = Place("/gone.pem", CERTIFICATE)
        note(gone, Validity(2.0, 1.0))
        await r.supervisor.reload()
        await until(lambda: gone not in in_use(), "it is told no more")


def test_the_certificate_of_the_port_is_told_and_after_a_reload_the_next_one(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    proved = "client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert"
    (tmp_path / "web.yml").write_text(f"tls_server_config: {{cert_file: cert.pem, key_file: key.pem, {proved}}}\n")
    issued(ca, tmp_path, NOW + timedelta(days=3))
    access = Access(tmp_path / "web.yml")
    place = Place(str(tmp_path / "cert.pem"), CERTIFICATE)
    assert set(access.certificates) == {place, Place(str(tmp_path / "ca.pem"), AUTHORITY)}
    assert access.certificates[place] == until_in(3)
    issued(ca, tmp_path, NOW + timedelta(days=90))
    access.reload()
    assert access.certificates[place] == until_in(90)
    assert Access().certificates == {}


def test_the_certificate_of_the_port_as_text_is_told_by_its_key(tmp_path: Path) -> None:
    issued(trustme.CA(), tmp_path, NOW + timedelta(days=3))
    texts = {name: (tmp_path / f"{name}.pem").read_text() for name in ("cert", "key")}
    (tmp_path / "web.yml").write_text(yaml.safe_dump({"tls_server_config": texts}))
    place = Place(f"{tmp_path}/web.yml: tls_server_config.cert", CERTIFICATE)
    assert Access(tmp_path / "web.yml").certificates == {place: until_in(3)}
