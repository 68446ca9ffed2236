"""``promring import``: shapes of configurations, each by what must hold for all of them."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from promring.importing.configuration import read_configuration
from promring.importing.convert import DISCOVERY, PROMRING, SCRAPERS, Converted, convert
from promring.importing.keys import DISCOVERIES
from promring.importing.scrapers import Change, rewrite
from promring.importing.services import Layout
from promring.importing.source import Node, Source, flat, parse_source, value_of
from promring.importing.verdicts import Verdict, Wishes
from tests.shapes import SHAPES, Shape

LETTERS = {Verdict.NATIVE: "N", Verdict.DISCOVERY: "D", Verdict.KEPT: "K", Verdict.NOT_TAKEN: "X"}
LAYOUT = Layout(scrapers=("10.0.0.1:9090", "10.0.0.2:9090", "10.0.0.3:9090"))


def put(folder: Path, shape: Shape) -> Path:
    for name, text in shape.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    path = folder / "prometheus.yml"
    path.write_bytes(shape.text.encode())
    return path


def converted(folder: Path, shape: Shape) -> Converted:
    configuration = read_configuration(put(folder, shape))
    return convert([configuration], Wishes(), LAYOUT)


def around(source: Source, jobs: list[Node]) -> list[str]:
    """What is before, between and behind the discoveries of these jobs."""
    pieces, at = [], 0
    for node in jobs:
        key, value = next(pair for name, pair in flat(node).items() if name in DISCOVERIES)
        pieces.append(source.text[at : key.start])
        at = value.end
    pieces.append(source.text[at:])
    return [source.prefix + pieces[0], *pieces[1:]]


@pytest.fixture(params=SHAPES, ids=lambda name: name.replace(" ", "_"))
def shape(request: pytest.FixtureRequest) -> Shape:
    return SHAPES[request.param]


def test_each_job_has_the_verdict_that_it_must_have(tmp_path: Path, shape: Shape) -> None:
    found = converted(tmp_path, shape)
    verdicts = {judged.job.name.replace(" ", "_"): LETTERS[judged.verdict] for judged in found.jobs}
    for name, letter in shape.verdicts.items():
        assert verdicts[name] == letter, name
    assert verdicts.keys() == shape.verdicts.keys()
    assert sum(found.counts.values()) == len(found.jobs)
    assert found.exact == shape.exact, [str(f) for f in found.findings]
    assert found.configuration.vmagent == shape.vmagent


def test_what_is_not_a_discovery_of_a_shared_job_stays_byte_for_byte(tmp_path: Path, shape: Shape) -> None:
    found = converted(tmp_path, shape)
    for name, file in found.files.items():
        if name in (PROMRING, DISCOVERY):
            continue
        source = found.configuration.included.get(name, found.configuration.main)
        if any(f.code == "PI026" and f.file == source.name for f in found.findings):
            continue  # written out, and said
        new = file.content.decode()
        pieces = re.split(r'"?file_sd_configs"?: ?\[\{"?files"?: ?\["?(?:\.\./)*promring/[^\]]*\]\}\]', new)
        old, at = (source.prefix + source.text), 0
        cut = any(judged.shards or len(DISCOVERIES & flat(judged.job.node).keys()) > 1 for judged in found.jobs)
        for piece in pieces:
            for line in piece.splitlines(keepends=True) if cut else [piece]:
                at = old.index(line, at) + len(line)  # in order, nothing invented
        if not cut:
            assert pieces == around(source, [j.job.node for j in found.jobs if j.verdict.sharded and j.job.source is source])


def test_the_scrapers_configuration_says_the_same_but_for_the_discovery(tmp_path: Path, shape: Shape) -> None:
    found = converted(tmp_path, shape)
    for name, source in {SCRAPERS: found.configuration.main, **found.configuration.included}.items():
        if name in found.files:
            of_file = partial(LAYOUT.discovery_of, folder=str(Path(name).parent), vmagent=found.configuration.vmagent)
            changes = {
                j.job.number: Change(of_file(found.names[j.job.name]), frozenset(j.cut_rules))
                for j in found.jobs
                if j.verdict.sharded and j.job.source is source
            }
            assert found.files[name].content == source.encoded(rewrite(source, changes).text)
            assert parse_source(found.files[name].content, tmp_path, name)


def test_the_same_bytes_in_are_the_same_bytes_out(tmp_path: Path, shape: Shape) -> None:
    one, other = converted(tmp_path, shape), converted(tmp_path, shape)
    assert one.files == other.files
    assert one.findings == other.findings


def test_no_secret_is_said_and_files_with_one_are_private(tmp_path: Path, shape: Shape) -> None:
    found = converted(tmp_path, shape)
    assert "hunter2-canary" not in "".join(map(str, found.findings))
    for file in found.files.values():
        assert (b"hunter2-canary" not in file.content) or file.mode == 0o600
    if "hunter2-canary" in shape.text:
        assert found.files[SCRAPERS].content.count(b"hunter2-canary") + found.files.get(
            DISCOVERY, found.files[PROMRING]
        ).content.count(b"hunter2-canary") >= shape.text.count("hunter2-canary")


def test_a_finding_names_its_place(tmp_path: Path, shape: Shape) -> None:
    lines = shape.text.count("\n") + 1
    for finding in converted(tmp_path, shape).findings:
        assert re.fullmatch(r".+\.yml:\d+:( \S.*:)? (info|warning|error): .+ \[PI\d{3}\]", str(finding))
        assert finding.line <= max(lines, *(text.count("\n") + 1 for text in shape.files.values()), 1)


def test_a_discovering_prometheus_scrapes_nothing_and_finds_what_the_job_found(tmp_path: Path, shape: Shape) -> None:
    found = converted(tmp_path, shape)
    through = [j for j in found.jobs if j.verdict is Verdict.DISCOVERY]
    assert (DISCOVERY in found.files) == bool(through)
    if not through:
        return
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / DISCOVERY).write_bytes(found.files[DISCOVERY].content)
    new = {job.name: job for job in read_configuration(tmp_path / "out" / DISCOVERY).jobs}
    assert list(new) == [j.job.name for j in through]
    for judged in through:
        job = new[judged.job.name]
        assert dict(value_of(job.node)[1:])["scrape_interval"] == ("scalar", "100y", "tag:yaml.org,2002:str")
        assert job.discoveries == judged.job.discoveries
