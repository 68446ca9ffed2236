"""What the page on migration tells to type, typed on the files that it shows: each way ends in files that promring takes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from promring.config.load import load
from tests.blocks import ROOT, Block, blocks, commands

PAGE = list(blocks(ROOT / "docs/migration.md"))
PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"


def lay_out(folder: Path) -> None:
    """The files of the page, those that it only describes too."""
    for block in PAGE:
        if found := re.match(r"# (\w+\.\w+)\n", block.text):
            (folder / found[1]).write_text(block.text)
    (folder / "allocator.json").write_text(next(block.text for block in PAGE if block.language == "json"))
    first = (folder / "shard0.yml").read_text()
    for n in ("1", "2"):
        shard = first.replace("regex: 0", f"regex: {n}").replace('shard: "0"', f'shard: "{n}"')
        (folder / f"shard{n}.yml").write_text(shard)


def run(block: Block, folder: Path) -> str:
    line = "set -e\n" + block.text
    done = subprocess.run(["bash", "-c", line], cwd=folder, env={"PATH": PATH}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def by(word: str) -> Block:
    return next(b for b in PAGE if b.marker.startswith("run elsewhere") and any(word in line for line in commands(b)))


@pytest.mark.parametrize("way", ["hashmod", "vmagent", "allocator"])
def test_an_import_of_the_page_makes_a_fleet_of_three_that_share_the_job(way: str, tmp_path: Path) -> None:
    lay_out(tmp_path)
    assert "1 job: 1 sharded natively" in run(by(f"--out {way}"), tmp_path)
    (service,) = load(tmp_path / way / "promring.yml").shard_services
    assert (service.name, len(service.listed)) == ("node", 3)
    (job,) = yaml.safe_load((tmp_path / way / "prometheus.yml").read_text())["scrape_configs"]
    assert [one["url"] for one in job["http_sd_configs"]] == ["http://promring.example:9600/sd/node/SCRAPER"]
    assert "hashmod" not in str(job)
    refused_by_vmagent = [key for one in job["http_sd_configs"] for key in one if key == "refresh_interval"]
    assert bool(refused_by_vmagent) is (way != "vmagent")


def test_what_prome_shard_had_is_a_configuration_that_promring_takes_and_a_job_that_reads_its_file(tmp_path: Path) -> None:
    lay_out(tmp_path)
    printed = run(by("promring check"), tmp_path)
    assert "/opt/app/prometheus/sd/scrape_prome_ecs.json" in printed
