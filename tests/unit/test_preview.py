"""Plans before they happen, and simulated fleets."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from promring.cli import main
from promring.core.placement import Policy, place, place_living
from promring.core.preview import NotLiveError, PreviewError, preview
from promring.core.ring import Ring
from promring.demo.process import free_port
from promring.model import Members, Scraper
from promring.web.views.plans import described
from tests.fakes.figures import series, vector
from tests.laws.strategies import addresses, members, policies, pool_of


@given(addresses, members(), policies)
def test_the_plan_of_the_plans_own_outcome_is_empty(names: list[str], scrapers: Members, policy: Policy) -> None:
    assert preview(pool_of(names), scrapers, policy).plan.moves == ()


@given(addresses, members(least=2), policies, st.data())
def test_what_a_plan_says_adds_up(names: list[str], scrapers: Members, policy: Policy, data: st.DataObject) -> None:
    leaver = data.draw(st.sampled_from(scrapers))
    joiner = Scraper("new:1", "new", 1)
    found = preview(pool_of(names), scrapers, policy, without=[leaver.id], joining=[joiner])
    rows = {row.id: row for row in described(found).scrapers}
    for row in rows.values():
        assert (row.before or 0) + row.gains - row.gives == (row.after or 0)
    assert rows[leaver.id].after is None
    assert rows[joiner.id].before is None
    assert sum(row.gains for row in rows.values()) == found.plan.moved
    later = (*(s for s in scrapers if s != leaver), joiner)
    every = Ring(tuple(sorted((*scrapers, joiner))), policy.virtual_nodes)  # who leaves stays listed
    expected = place_living(pool_of(names), Ring(tuple(sorted(later)), policy.virtual_nodes), every, policy)
    assert found.after.counts() == expected.counts()


def test_what_cannot_be_is_said() -> None:
    one = (Scraper("a:1", "a", 1),)
    with pytest.raises(NotLiveError, match="b:1 is not a live scraper; there is a:1") as error:
        preview(pool_of(["t:1"]), one, Policy(), without=["b:1"])
    assert (error.value.name, error.value.live) == ("b:1", ["a:1"])
    with pytest.raises(PreviewError, match="a:1 is a live scraper already"):
        preview(pool_of(["t:1"]), one, Policy(), joining=one)
    with pytest.raises(PreviewError, match="no scraper would be left"):
        preview(pool_of(["t:1"]), one, Policy(), without=["a:1"])


def test_a_simulation_has_the_shape_of_the_contract_and_true_numbers(tmp_path: Path) -> None:
    arguments = ["simulate", "--scrapers", "20", "--targets", "5000", "--leave", "2", "--join", "3", "--output=json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    data = json.loads(result.output)
    assert set(data) == {"scrapers", "targets", "services", "balance", "leave", "join", "place_s"}
    assert data["balance"]["count_max_over_mean"] <= 1.10
    assert data["balance"]["load_max_over_mean"] == data["balance"]["count_max_over_mean"]
    assert 0 < data["leave"]["share"] <= data["leave"]["moved"] <= 1.2 * data["leave"]["share"]
    assert data["join"]["ideal"] == pytest.approx(5000 * 3 / 23)
    assert data["place_s"] > 0
    skewed = json.loads(CliRunner().invoke(main, [*arguments, "--skew"]).output)["balance"]
    assert skewed["load_max_over_mean"] <= 1.101 < skewed["count_max_over_mean"], "a long tail is balanced by load"
    picture = tmp_path / "x.png"
    drawn = CliRunner().invoke(main, [*arguments[:-1], "--zones", "2", "--replicas", "2", "--plot", str(picture)])
    assert (drawn.exit_code, f"drawn: {picture}" in drawn.output) == (0, True)
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused = CliRunner().invoke(main, [*arguments[:-1], "--plot", str(tmp_path / "no" / "x.png")])
    assert (refused.exit_code, "No such file" in refused.output) == (1, True)
    full = CliRunner().invoke(main, ["simulate", "--scrapers", "2", "--targets", "100", "--capacity", "40"])
    assert "DOES NOT FIT: 20 targets lack an owner" in full.output
    shown = CliRunner().invoke(main, ["simulate", "--scrapers", "5", "--targets", "1000", "--plain"])
    assert shown.exit_code == 0
    assert "targets a scraper" in shown.output
    assert "#" in shown.output
    for bad in ("--scrapers 0 --targets 1", "--scrapers 1 --targets 10", "--scrapers 2 --targets 1 --load-factor 0.5"):
        assert CliRunner().invoke(main, ["simulate", *bad.split()]).exit_code == 2


def test_a_plan_without_facts_says_which_is_missing(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(
        "shard_services: [{name: x, scrapers: {probe: {nodes: ['127.0.0.1:1'], interval: 100ms, timeout: 100ms}},"
        " targets: [{file: {files: [t.json]}}], delivery: [{http_sd: {}}]}]"
    )
    nowhere = f"http://127.0.0.1:{free_port()}"
    result = CliRunner().invoke(main, ["plan", "--config.file", str(tmp_path / "x.yml"), "--url", nowhere])
    assert result.exit_code == 1
    said, why = result.output.splitlines()
    assert said.startswith(f"no controller is asked: no promring answers at {nowhere}")
    assert why == "Error: x: no scraper is alive; 127.0.0.1:1: cannot connect to 127.0.0.1:1: Connection refused"


def test_a_scraper_that_is_listed_and_dead_may_be_asked_for_as_if_it_were_there() -> None:
    one, dead = Scraper("a:1", "a", 1), Scraper("b:1", "b", 1)
    pool = pool_of([f"t{n}:1" for n in range(40)])
    found = preview(pool, (one,), Policy(), joining=[dead], listed=(one, dead))
    assert found.after.counts() == place(pool, Ring((one, dead), Policy().virtual_nodes), Policy()).counts()


def simulated(tmp_path: Path, content: bytes, *more: str) -> Result:
    file = tmp_path / "loads"
    file.write_bytes(content)
    return CliRunner().invoke(main, ["simulate", "--scrapers", "5", f"--loads={file}", *more])


@pytest.mark.parametrize(
    "content",
    [
        b"\n".join([b"3000"] * 20 + [b"20.4"] * 980 + [b"NaN", b"-1", b"1e12", b""]),
        json.dumps(
            vector(*(series({"n": str(n)}, 3000 if n < 20 else 20.4 if n < 1000 else "NaN") for n in range(1003)))
        ).encode(),
    ],
    ids=["lines", "answer of a query"],
)
def test_a_simulated_fleet_weighs_what_a_file_says(tmp_path: Path, content: bytes) -> None:
    found = simulated(tmp_path, content, "--output=json")
    assert found.exit_code == 0, found.output
    assert "3 odd figures left out" in found.stderr
    data = json.loads(found.stdout)
    assert data["targets"] == 1000
    assert data["balance"]["load_max_over_mean"] <= 1.101
    by_count = simulated(tmp_path, content, "--output=json", "--plain")
    assert json.loads(by_count.stdout)["balance"]["load_max_over_mean"] > 1.15, "which is what loads are for"
    assert json.loads(simulated(tmp_path, content, "--output=json", "--targets=5000").stdout)["targets"] == 5000


@pytest.mark.parametrize(
    ("content", "more", "code", "said"),
    [
        (b"12\nmany\n", (), 1, "loads:2: 'many' is no number"),
        (b"NaN\n", (), 1, "no figure in it"),
        (b"", (), 1, "no figure in it"),
        (b'{"status":"error"}', (), 1, "not the answer of a query"),
        (b"12\n", ("--skew",), 2, "which loads?"),
    ],
)
def test_a_file_of_loads_that_is_none_is_said(
    tmp_path: Path, content: bytes, more: tuple[str, ...], code: int, said: str
) -> None:
    found = simulated(tmp_path, content, *more)
    assert (found.exit_code, said in found.output) == (code, True), found.output


def test_a_simulation_needs_targets_or_loads(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["simulate", "--scrapers", "5"])
    assert (found.exit_code, "--targets: how many?" in found.output) == (2, True)
    gone = CliRunner().invoke(main, ["simulate", "--scrapers", "5", f"--loads={tmp_path / 'no'}"])
    assert (gone.exit_code, "No such file" in gone.output) == (1, True)


def test_a_histogram_goes_into_a_pipe_too(tmp_path: Path) -> None:
    taken: list[bytes] = []
    os.mkfifo(tmp_path / "pipe")
    reader = threading.Thread(target=lambda: taken.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    command = ["simulate", "--scrapers", "2", "--targets", "10", "--plot", str(tmp_path / "pipe")]
    drawn = CliRunner().invoke(main, command)
    reader.join()
    assert (drawn.exit_code, taken[0][:4]) == (0, b"\x89PNG"), drawn.output
