"""Proxies of HTTP, and certificates as text: what the configuration takes, and what an error says."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from pydantic import ValidationError
from yarl import URL

from promring.config.http_client import HttpClient
from promring.config.scraper_api import ScraperApi
from promring.core.fragment import decode, fragments
from promring.discovery import SourceContext
from promring.discovery.http import HttpTargets
from promring.discovery.prometheus import PrometheusTargets
from promring.model import DiscoveryError
from promring.runtime.proxy import is_proxied, proxy_of_environment
from tests.fakes.engine import FakeEngine
from tests.fakes.proxy import FakeProxy
from tests.proxied import PROXIED


def http_targets(url: str, **keys: Any) -> HttpTargets:
    return HttpTargets.model_validate({"url": url, "refresh_interval": "5s"} | keys, context={"base": Path()})


async def fetched(settings: HttpTargets | PrometheusTargets) -> list[str]:
    return [decode(one).address for one in fragments(await settings.source(SourceContext(Path())).fetch())]


@asynccontextmanager
async def source_behind_tls(context: ssl.SSLContext) -> AsyncIterator[int]:
    """An HTTP source that lists the header ``X-Token`` that it was sent, as a host. Gives its port."""

    async def targets(request: web.Request) -> web.Response:
        return web.json_response([{"targets": [f"{request.headers.get('X-Token', 'none')}:1"]}])

    app = web.Application()
    app.router.add_get("/sd", targets)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("no_proxy", "url", "proxied"), [case for case in PROXIED if case[0]])
def test_no_proxy_means_what_it_means_to_prometheus(no_proxy: str, url: str, proxied: bool) -> None:
    assert is_proxied(URL(url), no_proxy) == proxied


OF_THE_ENVIRONMENT: list[tuple[Mapping[str, str], str, str | None]] = [
    ({}, "http://a.test/", None),
    ({"HTTP_PROXY": "http://p:1"}, "http://a.test/", "http://p:1"),
    ({"HTTP_PROXY": "http://p:1"}, "https://a.test/", None),
    ({"https_proxy": "http://p:1"}, "https://a.test/", "http://p:1"),
    ({"HTTP_PROXY": "http://p:1", "http_proxy": "http://q:1"}, "http://a.test/", "http://p:1"),
    ({"HTTP_PROXY": "", "http_proxy": "http://q:1"}, "http://a.test/", "http://q:1"),
    ({"http_proxy": "p:1"}, "http://a.test/", "http://p:1"),
    ({"http_proxy": "http://p:1", "NO_PROXY": "a.test"}, "http://a.test/", None),
    ({"http_proxy": "http://p:1"}, "http://127.0.0.1/", None),
]


@pytest.mark.parametrize(("environ", "url", "proxy"), OF_THE_ENVIRONMENT)
def test_a_proxy_of_the_environment(environ: Mapping[str, str], url: str, proxy: str | None) -> None:
    found = proxy_of_environment(environ, URL(url))
    assert (found.reveal() if found else None) == proxy


PROXY = {"proxy_url": "http://p:1"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"no_proxy": "x"}, "no_proxy needs proxy_url"),
    ({"proxy_connect_header": {"X": ["y"]}}, "needs proxy_url or proxy_from_environment"),
    (PROXY | {"proxy_from_environment": True}, "either proxy_from_environment or proxy_url"),
    (PROXY | {"proxy_connect_header": {"X Y": ["z"]}}, "proxy_connect_header"),
    (PROXY | {"proxy_connect_header": {"X": ["y\nz"]}}, "is not a text on one line"),
    ({"proxy_url": "socks5://u:geheim@p:1"}, "put an HTTP proxy before it, or let a Prometheus discover"),
    ({"proxy_url": "https://u:geheim@:1"}, "is not an http:// or https:// URL"),
    ({"tls_config": {"ca": "x"}}, "is not the text of a certificate or key"),
    ({"tls_config": {"ca": "-----BEGIN X", "ca_file": "x"}}, "either ca or ca_file"),
    ({"tls_config": {"cert": "-----BEGIN X"}}, "a certificate and its key go together"),
]


@pytest.mark.parametrize(("keys", "why"), REFUSED)
def test_keys_that_exclude_each_other_are_refused_as_prometheus_does(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why) as refused:
        HttpClient.model_validate(keys, context={"base": Path()})
    assert "geheim" not in str(refused.value)


def test_a_proxy_of_the_environment_that_cannot_be_used_is_refused_where_the_configuration_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://u:geheim@p:1")
    with pytest.raises(ValidationError, match=r"https_proxy: .*p:1.* put an HTTP proxy before it") as refused:
        HttpClient.model_validate({"proxy_from_environment": True})
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("keys", [PROXY | {"no_proxy": "x"}, {"proxy_from_environment": True}])
def test_scrapers_are_asked_without_a_proxy(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="it asks scrapers directly"):
        ScraperApi.model_validate(keys)


async def test_what_is_asked_through_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeProxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert await fetched(http_targets("http://a.test/sd", proxy_from_environment=True)) == ["a:1"]
        assert proxy.hosts == {"a.test"}


async def test_an_error_through_a_proxy_names_the_proxy_and_shows_no_secret() -> None:
    async with FakeProxy() as proxy:
        at = proxy.url.replace("http://", "http://user:geheim@")
        headers = {"X-Token": ["verborgen"]}
        for url, status, why in (
            ("http://a.test/sd", "502 Bad Gateway", f"a.test/sd: status 502 through the proxy {proxy.url}"),
            ("http://a.test/sd", "407 Proxy Authentication Required", f"status 407 through the proxy {proxy.url}"),
            (
                "https://a.test/sd",
                "403 geheim verborgen",
                f"through the proxy {proxy.url}: the proxy answered 403 to CONNECT",
            ),
            ("https://a.test/sd", "200 OK", "the proxy answered 403 to CONNECT"),
        ):
            proxy.status = status
            with pytest.raises(DiscoveryError) as trouble:
                await fetched(http_targets(url, proxy_url=at, proxy_connect_header=headers))
            assert why in str(trouble.value)
            assert not {"geheim", "verborgen"} & set(str(trouble.value).split())
    with pytest.raises(DiscoveryError, match=f"through the proxy {proxy.url}: cannot connect to 127.0.0.1:"):
        await fetched(http_targets("http://a.test/sd", proxy_url=at))
    with pytest.raises(DiscoveryError, match=r"through the proxy http://proxy.invalid:1: the name proxy.invalid cannot be"):
        await fetched(http_targets("http://a.test/sd", proxy_url="http://proxy.invalid:1"))


async def test_certificates_as_text_and_headers_of_connect_through_a_tunnel() -> None:
    ca = trustme.CA()
    certificate, ours = ca.issue_cert("a.test"), ca.issue_cert("client.test")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    tls = {
        "ca": ca.cert_pem.bytes().decode(),
        "cert": b"".join(blob.bytes() for blob in ours.cert_chain_pems).decode(),
        "key": ours.private_key_pem.bytes().decode(),
    }

    async with AsyncExitStack() as stack:
        behind = await stack.enter_async_context(source_behind_tls(context))
        proxy = await stack.enter_async_context(FakeProxy(behind=behind))
        settings = http_targets(
            "https://a.test/sd", proxy_url=proxy.url, proxy_connect_header={"X-Token": ["verborgen"]}, tls_config=tls
        )
        assert await fetched(settings) == ["none:1"]  # the server behind it does not see what the proxy is told
        ((method, target, headers),) = proxy.asked
        assert (method, target, headers["x-token"]) == ("CONNECT", "a.test:443", "verborgen")
        assert "PRIVATE" not in repr(settings)
        with pytest.raises(DiscoveryError, match="certificate is not trusted"):
            await fetched(http_targets("https://a.test/sd", proxy_url=proxy.url))


async def test_a_proxy_behind_tls_sees_what_is_asked_and_is_not_trusted_without_its_authority() -> None:
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("a.test", "127.0.0.1").configure_cert(context)
    tls = {"ca": ca.cert_pem.bytes().decode()}

    async with AsyncExitStack() as stack:
        behind = await stack.enter_async_context(source_behind_tls(context))
        proxy = await stack.enter_async_context(FakeProxy(behind=behind, tls=context))
        at = proxy.url.replace("https://", "https://user:geheim@")
        assert await fetched(http_targets("http://a.test/sd", proxy_url=at, tls_config=tls)) == ["a:1"]
        assert await fetched(http_targets("https://a.test/sd", proxy_url=at, tls_config=tls)) == ["none:1"]
        assert [(method, target) for method, target, _ in proxy.asked] == [
            ("GET", "http://a.test/sd"),
            ("CONNECT", "a.test:443"),
        ]
        assert all(headers["proxy-authorization"] == "Basic dXNlcjpnZWhlaW0=" for _, _, headers in proxy.asked)
        for url in ("http://a.test/sd", "https://a.test/sd"):
            with pytest.raises(DiscoveryError, match=f"through the proxy {proxy.url}: .*the certificate is not trusted"):
                await fetched(http_targets(url, proxy_url=at))
        assert len(proxy.asked) == 2


async def test_an_engine_behind_a_password_and_a_proxy() -> None:
    async with (
        FakeEngine({"node": [{"__address__": "a:1"}], "other": [{"__address__": "b:1"}]}) as engine,
        FakeProxy() as proxy,
    ):
        engine.basic_auth = "Basic dXNlcjpwYXNz"
        keys = {"url": engine.url, "scrape_pool": "node", "interval": "5s"}
        settings = PrometheusTargets.model_validate(keys | {"basic_auth": {"username": "user", "password": "pass"}})
        assert await fetched(settings) == ["a:1"]
        with pytest.raises(DiscoveryError, match="/api/v1/status/config: status 401"):
            await fetched(PrometheusTargets.model_validate(keys))
        with pytest.raises(DiscoveryError, match="/api/v1/status/config is malformed: "):
            await fetched(PrometheusTargets.model_validate(keys | {"proxy_url": proxy.url}))
        assert proxy.hosts == {engine.url.removeprefix("http://")}
