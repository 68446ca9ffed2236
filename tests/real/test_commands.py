"""The commands that an operator types, against a running promring."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from promring.demo.process import free_port
from tests.real.stage import CONSUL_SERVICE, SERVICE, stage
from tests.waiting import RUN_S, until


async def promring(*arguments: str) -> tuple[int, str]:
    """Exit status and everything it printed."""
    command = [sys.executable, "-m", "promring", *arguments]
    out = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=120)
    return out.returncode, out.stdout + out.stderr


@pytest.mark.row(12, 16, did="status and where, in good times and in bad ones")
async def test_status_and_where_say_what_is_in_good_and_in_bad_times(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        s.allowed |= {"membership_gives_no_answer", "register_failed", "discovery_failed"}
        url = ("--url", s.controller.url)
        code, text = await promring("status", *url)
        assert code == 0
        assert f"{SERVICE}: 60 targets" in text
        assert all(scraper.id in text for scraper in s.scrapers)
        target = s.slice_of(s.scrapers[0])[0]
        code, text = await promring("where", target, *url)
        assert code == 0
        assert f"scraper     {s.scrapers[0].id}" in text
        code, text = await promring("where", "10.9.9.9:1", *url)
        assert (code, text.splitlines()[0]) == (1, "no service has the target 10.9.9.9:1")
        code, text = await promring("where", f"http://{target}/metrics", *url)
        assert (code, f"scraper     {s.scrapers[0].id}" in text) == (0, True), "a scrape URL"
        code, text = await promring("events", "--service", SERVICE, *url)
        assert (code, f"reshard fleet={SERVICE} reason=" in text) == (0, True)
        code, text = await promring("where", target, "--service", "nope", *url)
        assert (code, text) == (1, f"Error: {s.controller.url}: no service 'nope'; there is {SERVICE}\n")
        drained, token = s.scrapers[0].id, ("--token-file", str(tmp_path / "token"))
        code, text = await promring("drain", drained, *url)
        assert (code, "--token-file names the file that has it" in text) == (1, True)
        code, text = await promring("drain", drained, *url, *token)
        assert (code, text.splitlines()[-1]) == (0, f"{SERVICE}: {drained} drained: it holds nothing")
        code, text = await promring("status", *url)
        assert "drained" in text
        code, text = await promring("undrain", drained, "--fleet", SERVICE, *url, *token)
        assert (code, text.startswith(f"{SERVICE}: {drained} undrained: ")) == (0, True)
        code, text = await promring("drain", "10.9.9.9:1", *url, *token)
        assert (code, f"no scraper '10.9.9.9:1' in {SERVICE}; there is " in text) == (1, True)
        code, text = await promring("status", "--output=json", *url)
        assert json.loads(text)["services"][0]["targets"] == 60
        code, text = await promring("status", "--url", f"127.0.0.1:{free_port()}")
        assert code == 1
        assert "no promring answers at http://127.0.0.1" in text
        assert "refused" in text

        (tmp_path / "targets.json").write_text("[{")
        await s.consul.kill()

        async def shown() -> bool:
            _, text = await promring("status", *url)
            return all(words in text for words in ("the last scrapers stay", "targets.json:1: ", "60 targets, known"))

        await until(shown, "Consul's and the source's trouble in the status", 20, look_s=RUN_S)


async def test_with_consul_gone_the_status_says_which_scraper_is_dead_and_is_not_green(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    audit = {"interval": "2s", "timeout": "2s"}
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, audit=audit) as s:
        s.allowed |= {"membership_gives_no_answer", "register_failed"}
        url, dead = ("--url", s.controller.url), s.scrapers[0]

        async def says(*words: str) -> bool:
            described = await s.controller.ask(s.session, f"services/{SERVICE}")
            return all(word in json.dumps(described) for word in words)

        await until(lambda: says('"level": "good"', "60 of 60 targets seen scraped"), "all is well")
        await s.consul.kill()
        await until(lambda: says('"state": "unknown"', '"last_state": "up"'), "Consul is gone")
        await dead.kill()
        await until(lambda: says(f"cannot connect to {dead.id}", " unproved)", '"level": "warn"'), "the audit finds it dead")
        _, text = await promring("status", *url)
        assert text.startswith("promring ")
        assert f"but not all is well with {SERVICE}" in text.splitlines()[0]
        rows = {line.split()[0]: line for line in text.splitlines() if line.strip() and line.split()[0] in s.slices()}
        assert "unknown (was up)" in rows[dead.id]
        assert "cannot be asked: cannot connect to" in rows[dead.id]
        assert all("Consul" not in row for row in rows.values()), "that is said of the membership, once"
        assert text.count("Connection refused; the last scrapers stay") == 1
        assert all("cannot" not in rows[x.id] for x in s.scrapers[1:])


async def test_a_changed_check_is_registered_again_and_a_node_taken_out_leaves_consul(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        config = yaml.safe_load(s.controller.config_file.read_text())
        register = config["shard_services"][0]["scrapers"]["consul"]["register"]
        register["check"]["interval"] = "3s"
        gone = register["nodes"].pop()
        s.controller.configure(config)
        assert (await s.controller.reload(s.session)).status == 200

        async def again() -> bool:
            entries = await s.consul.get(s.session, f"/v1/health/service/{CONSUL_SERVICE}")
            checks = [e["Service"]["Meta"]["promring_check"] for e in entries]
            return sorted(c.split(" ")[2] for c in checks) == ["3s", "3s"]

        await until(again, "the changed check in Consul, and the node taken out is not there", 60)
        left, stay = s.scrapers[-1], s.scrapers[:-1]
        assert gone == left.id
        said = s.controller.log_lines  # Consul shows it before the answer to promring, which then says so
        await until(lambda: said("deregister_service") != [], "it is said that the node was taken out of Consul", 60)
        assert s.controller.log_lines("registered_but_not_configured") == []
        assert s.slice_of(left) == [], "it was emptied before it left"
        await until(lambda: s.placed_on(*stay), "no other scraper died of it")
