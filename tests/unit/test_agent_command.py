"""The command `promring agent`: whom it asks, and that a folder of slices is one scraper's."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from promring.agent import owner
from promring.agent.owner import OWNER, TakenError, owned
from promring.cli import main
from promring.cli.agent import agent


def test_an_agent_of_another_scraper_ends_and_one_of_the_same_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "sd"
    with owned(folder, "a:1"):
        assert (folder / OWNER).read_text() == "a:1\n"
        with pytest.raises(TakenError, match=r"the agent of 'a:1' writes here; the one of 'b:1' needs another folder"):
            with owned(folder, "b:1"):
                pass
        with owned(folder, "A:1"):
            pass
        command = ["agent", "--controller", "http://127.0.0.1:1", "--scraper", "b:1", "--dir", str(folder)]
        result = CliRunner().invoke(main, command)
        assert (result.exit_code, "the agent of 'a:1' writes here" in result.output) == (1, True), result.output
    with owned(folder, "b:1"):
        assert (folder / OWNER).read_text() == "b:1\n", "nobody holds it any more: another name of the scraper"
    assert [path.name for path in folder.iterdir()] == [OWNER], "no name that a pattern for lists matches"


def test_two_agents_of_one_scraper_both_keep_others_out(tmp_path: Path) -> None:
    with ExitStack() as second:
        with owned(tmp_path, "a:1"):
            second.enter_context(owned(tmp_path, "a:1"))
        with pytest.raises(TakenError), owned(tmp_path, "b:1"):
            pass
    with owned(tmp_path, "b:1"):
        assert (tmp_path / OWNER).read_text() == "b:1\n"


def test_who_comes_while_another_one_writes_its_name_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also behind one that went on without a name, or keeps the lock to itself: nobody else's name is there."""
    with open(tmp_path / OWNER, "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with owned(tmp_path, "a:1"):
            pass

        def name_it(_: float) -> None:
            other.write("b:1\n")
            other.flush()
            fcntl.flock(other, fcntl.LOCK_SH)

        monkeypatch.setattr(owner, "time", SimpleNamespace(sleep=name_it, monotonic=iter((0.0, 0.0, 1.0)).__next__))
        with pytest.raises(TakenError, match="the agent of 'b:1' writes here"), owned(tmp_path, "a:1"):
            pass


@pytest.mark.parametrize("what", ["a folder", "a link", "a pipe", "garbage"])
def test_where_there_can_be_no_owner_nobody_is_asked(tmp_path: Path, what: str) -> None:
    path = tmp_path / OWNER
    if what == "a folder":
        path.mkdir()
    elif what == "a link":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"\xff\x00")
    with owned(tmp_path, "a:1"), owned(tmp_path, "a:1"):
        assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("text", "found"), [("http://a:1, http://b:2/", ["http://a:1", "http://b:2"]), ("a:1,", ["http://a:1"])]
)
def test_controllers_stand_in_a_list_with_spaces_or_a_last_comma(text: str, found: list[str]) -> None:
    context = agent.make_context("agent", ["--controller", text, "--scraper", "x:1", "--dir", "d"])
    assert context.params["controllers"] == found


@pytest.mark.parametrize("text", ["", " ", ",", "http://a:236000", "a:1,unix:///x"])
def test_what_is_no_controller_is_refused(text: str) -> None:
    result = CliRunner().invoke(main, ["agent", "--controller", text, "--scraper", "x:1", "--dir", "d"])
    assert (result.exit_code, "or unix:" in result.output) == (2, False), result.output
