"""URLs and spans of time as people write them: ``promring`` takes what Prometheus takes, and refuses what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from promring.config.load import loads
from promring.model import ConfigError
from tests.real.conftest import server
from tests.rows import Seen

pytestmark = pytest.mark.real

_URLS = """
http://h/sd http://h http://h:80 http://h:08/x http://h?x http://h#f HTTP://H/x hTTps://h/x http://h./x http://_h/x
http://[::1]/x http://[::1]:80/x http://[fe80::1%25eth0]/x http://bücher.example/ http://xn--bcher-kva.example/
http://h/ü http://h/?q=%zz http://h/../../x http://h//x http://h/{x} http://h/<x> http://h/?a|b http://h;x/ http://1/
http://h:\u0668\u0660/ http://h:+80/ http://h:-1/ http://h:0x50/ http://h:80:x/ http://[fe80::1%eth0]/x http://[::1
http://::1]/ http://[::1]x/ http://[::1]:x/ http://[::1%]/ http://a%20b/x http://a%41/x http://h%2fx/ http://%
http://h/% http://h/%zz http://h/#%zz http://{x}/ http://h|/ http://h^/ http://h`/ http://h\\x ftp://h/ //h/x h/x h:80/x
http:h/x http:/h/x http:///x http:// http
"""
URLS = [
    *_URLS.split(),
    *["", " http://h/x", "http://a b/x", "http://h: 80/", "\nhttp://h/x", "http://h/x\n", "http://h/a b", "http://h/x "],
    *["http://h\n/x", "http://h/a\tb", "http://h/a\nb", "http://h/\x7f", "http://h\x7f/"],
]
_NOTHING_ANSWERS = (
    "http://h:0/ http://h:65536/ http://::1/x http://[]/x http://[h]/x http://[1.2.3.4]/x http://:80/ http://h:80:90/"
)
STRICTER = {
    **dict.fromkeys(["http://u@h/x", "http://u:p@h/x", "http://:p@h/"], "put credentials into keys"),
    **dict.fromkeys(_NOTHING_ANSWERS.split(), "is not an http:// or https:// URL"),
}
"""What Prometheus takes and promring does not, with what promring says."""
_SPANS = """
5s 1m 1h30m 1d2h 1y 1w 500ms 1s500ms 05s 00s1ms 1.5s .5s 1s1s 1m1h s 5 00 5S 1M 1us 1ns 1e3s +5s -5s \u0665s \uff11s
1_0s
"""
SPANS: list[object] = [
    *_SPANS.split(),
    *["", " 5s", "5s ", "5 s", "5s\n", "1h 30m", 5, 1.5, True, False, [], {}, ["5s"]],
]


def config(url: object, span: object) -> list[dict[str, object]]:
    return [{"url": url, "refresh_interval": span}]


def ours(url: object, span: object, folder: Path) -> str:
    """What promring says; empty where it takes them."""
    service = {"name": "x", "scrapers": {"probe": {"nodes": ["h:1"]}}, "delivery": [{"http_sd": {}}]}
    service["targets"] = [{"http_sd_configs": config(url, span)}]
    try:
        loads(json.dumps({"shard_services": [service]}), base=folder)
    except ConfigError as error:
        return error.problems[0]
    return ""


@pytest.mark.row(57, did="the same URLs and spans of time, in its own key, beside promtool")
def test_urls_and_spans_are_taken_as_prometheus_takes_them(tmp_path: Path, seen: Seen) -> None:
    tried: list[tuple[str, object]] = [(url, "60s") for url in [*URLS, *STRICTER]]
    tried += [("http://h/sd", span) for span in SPANS]
    names = {str(number): one for number, one in enumerate(tried)}
    for name, one in names.items():
        jobs = [{"job_name": "x", "http_sd_configs": config(*one)}]
        (tmp_path / f"{name}.yml").write_text(json.dumps({"scrape_configs": jobs}, ensure_ascii=False))
    paths = [tmp_path / f"{name}.yml" for name in names]
    said = subprocess.run(
        [server("promtool"), "check", "config", "--syntax-only", *paths], capture_output=True, text=True, check=False
    )
    refused = set(re.findall(r"FAILED: parsing YAML file \S*/(\d+)\.yml: ", said.stdout + said.stderr))
    wrong = []
    for name, (url, span) in names.items():
        answer = ours(url, span, tmp_path)
        theirs = name not in refused
        if (why := STRICTER.get(url)) is not None:
            if not theirs or why not in answer:
                wrong.append(f"{url!r}: Prometheus {theirs}, promring {answer!r}")
        elif theirs != (not answer):
            wrong.append(f"{url!r}, {span!r}: Prometheus {theirs}, promring {answer!r}")
    assert not wrong, "\n".join(wrong)
    seen(f"{len(tried)} values, {len(refused)} refused by both")
