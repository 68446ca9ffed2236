"""What ``promring scrape-config`` prints, judged by the programs that shall read it."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from promring.cli import main
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from tests.real.conftest import server
from tests.unit.test_scrape_config import SSH, configured
from tests.waiting import until

EVERY_KIND = ("[http_sd: {}]", "[file: {path: '/out/a folder/{scraper}.json'}]", f"[{{{SSH}}}]", "[ansible: {}]")


def printed(folder: Path, *arguments: str) -> str:
    file = configured(folder, *EVERY_KIND)
    url = ("--url", "http://promring.example:9600")
    result = CliRunner().invoke(main, ["scrape-config", "--config.file", str(file), *url, *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


async def judged(folder: Path, *command: str) -> tuple[int, str]:
    out = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, timeout=60, cwd=folder
    )
    return out.returncode, out.stdout + out.stderr


@pytest.mark.parametrize("arguments", [(), ("--scraper", "10.0.0.2:9091"), ("s2", "s3")], ids=" ".join)
async def test_promtool_and_vmagent_take_what_is_printed_for_them(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    file = tmp_path / "printed.yml"
    file.write_text(printed(tmp_path, *arguments))
    code, said = await judged(tmp_path, str(server("promtool")), "check", "config", str(file))
    assert (code, "SUCCESS" in said) == (0, True), said
    file.write_text(printed(tmp_path, "--for", "vmagent", *arguments))
    flags = re.findall(r"(-promscrape\.\S+=\S+)", file.read_text())
    code, said = await judged(tmp_path, str(server("vmagent")), "-dryRun", f"-promscrape.config={file}", *flags)
    assert code == 0, said
    assert len(flags) == (1 if arguments == ("s2", "s3") else 2), "each job has the flag that it needs"


async def test_vmagent_refuses_what_is_printed_for_prometheus(tmp_path: Path) -> None:
    file = tmp_path / "printed.yml"
    file.write_text(printed(tmp_path))
    code, said = await judged(tmp_path, str(server("vmagent")), "-dryRun", f"-promscrape.config={file}")
    assert (code != 0, "refresh_interval" in said) == (True, True), "or there would be no need for --for"


@pytest.mark.parametrize("name", ["prometheus", "prometheus3"])
async def test_prometheus_starts_with_what_is_printed(tmp_path: Path, name: str) -> None:
    scraper = ScraperProcess(server(name), tmp_path / name, SdConfig(), port=free_port())
    (tmp_path / name / "prometheus.yml").write_text(printed(tmp_path, "--scraper", "10.0.0.2:9091"))
    async with aiohttp.ClientSession() as session:
        await scraper.start()
        try:
            await until(lambda: scraper.is_ready(session), f"{name} ready", 60)
            async with session.get(f"{scraper.url}/api/v1/status/config") as response:
                loaded = (await response.json())["data"]["yaml"]
        finally:
            await scraper.kill()
    assert loaded.count("job_name: ") == len(EVERY_KIND)
    assert "/sd/s0/10.0.0.2:9091" in loaded
