"""What the README tells to type to begin with, typed in an empty folder that has only the file which it shows."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from promring.demo.process import Process, free_port
from promring.runtime.http_client import new_session
from tests.blocks import ROOT, blocks, commands
from tests.waiting import answers, patient

PAGE = list(blocks(ROOT / "README.md"))


def typed(line: str, folder: Path, env: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=patient(60)
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_the_first_commands_of_the_readme_start_a_promring(tmp_path: Path) -> None:
    """But for its installation, which ``make dist`` tries in a clean virtual environment."""
    (shown,) = (one for one in PAGE if one.text.startswith("# promring.yml"))
    (tmp_path / "promring.yml").write_text(shown.text)
    (block,) = (one for one in PAGE if "pip install" in one.text)
    *installs, token, check, run = commands(block)
    assert [line.split()[0] for line in installs] == ["python3", "pip"]
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for line in (token, check):
        typed(line, tmp_path, env)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    port = free_port()
    started = run.replace(":9600", f"127.0.0.1:{port}")
    assert started != run
    promring = Process(["bash", "-c", f"cd {tmp_path} && exec {started}"], tmp_path / "log", env)
    async with new_session(keep_alive=False) as session:
        try:
            await promring.start()
            await promring.until(lambda: answers(session, f"http://127.0.0.1:{port}/-/healthy"), "promring")
        finally:
            await promring.stop()
