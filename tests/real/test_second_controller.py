"""A second controller without a lock that was tried for a moment. Row 60."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from promring.demo.controller import Controller
from promring.demo.process import free_port
from tests.real.stage import stage
from tests.rows import Seen
from tests.waiting import until


@pytest.mark.row(
    60, did="a second promring run without a lock, with file delivery, is tried and stopped; a scraper dies later"
)
async def test_the_first_goes_on_by_itself_after_a_second_was_tried(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, None, http_sd=0, guard={"panic_threshold": 1}) as s:
        s.allowed |= {"delivery_failed", "controller_locked_out", "controller_took_over", "scraper_undeliverable"}
        first = await s.generation()
        config = yaml.safe_load(s.controller.config_file.read_text())
        second = Controller(tmp_path / "second", config, port=free_port())
        s.others.append(second)
        await second.start()
        await second.until(lambda: second.is_ready(s.session), "the second one")
        notes = [s.path_of(x).with_name(f".{s.path_of(x).name}.promring") for x in s.scrapers]
        await until(lambda: all(not n.read_text().startswith(first.split(".")[0] + ".") for n in notes), "it wrote")
        await second.stop()

        assert await s.controller.is_ready(s.session), "nobody knows yet: there was nothing to write"
        await s.scrapers[0].kill()
        left = s.scrapers[1:]
        saw_lock_out = []

        async def goes_on() -> bool:
            status = await s.controller.ask(s.session, "status")
            if status["controllers"]["locked_out_by"]:
                saw_lock_out.append((status["ready"], " ".join(status["unready"])))
            return s.placed_on(*left)

        took = await until(goes_on, "the first one goes on by itself", 40)
        assert saw_lock_out, "it is said while it lasts"
        assert not any(ready for ready, _ in saw_lock_out)
        assert "of another controller without a lock" in saw_lock_out[-1][1]
        assert len(s.controller.log_lines("controller_locked_out")) == 1
        assert len(s.controller.log_lines("controller_took_over")) == 1
        controllers = (await s.controller.ask(s.session, "status"))["controllers"]
        assert (controllers["locked_out_by"], controllers["took_over_at"] is None) == (None, False)
        assert await s.controller.is_ready(s.session)
        metrics = (await s.controller.get(s.session, "/metrics")).body.decode()
        assert "promring_takeovers_total 1.0" in metrics
        assert "promring_locked_out 0.0" in metrics
        seen(f"locked out, not ready and said so; all targets on the two that are left {took:.0f} s after the death")
