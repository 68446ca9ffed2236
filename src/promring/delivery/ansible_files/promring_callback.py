"""Tells promring how each host fared, as JSON lines in the file that ``PROMRING_ANSIBLE_REPORT`` names.

It is run by Ansible's own Python and knows nothing of promring. A line is ``{"host", "result", "why"}``, the last one of a
host counts: ``begun``, then ``changed`` or ``ok`` when it has been through the whole playbook, ``failed``,
``unreachable``, ``stopped`` when the playbook ended before the host was through since another one failed, or ``nothing``
when no task did anything there.

What the receiver says of each slice is told before, in lines that have the number of the slice as "file": "result" is the
receiver's word, "why" the rest (``receiver.sh``).

A host that was unreachable once is not ``ok``, whatever the playbook ignores: what ran on it did not run there.

A host that is through is told at once, not when all are: then a host that hangs does not hide how the others fared. It is
through when the last task of the last play is done and every handler that it notified. Where that cannot be known ahead
(the last task is a dynamic include) the end of the whole run tells.
"""

from __future__ import annotations

import gc
import json
import os
import re
from typing import Any

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped]

WHY_MOST = 3000
"""Characters; promring takes out what is secret before it cuts further."""
FILE = re.compile(r"promring ([0-9]{1,6}) (at|remark|written|same|reload|refused|error)\b ?(.*)")
SECRET = re.compile(r"pass|secret|token|key|cred", re.IGNORECASE)
TEMPORARY = re.compile(r'mkdir -p "` echo (\S+) `"')
VAULTED = {"AnsibleVaultEncryptedUnicode", "EncryptedString"}
"""The types of values that a vault holds, until Ansible 2.18 and since."""

DOCUMENTATION = """
    name: promring_callback
    type: stdout
    short_description: one JSON line a host
    description:
        - Writes the outcome of each host to the file named by the environment variable C(PROMRING_ANSIBLE_REPORT).
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "promring_callback"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._report = open(os.environ["PROMRING_ANSIBLE_REPORT"], "a", encoding="utf-8")  # noqa: SIM115  # closed by the end
        self._begun: set[str] = set()
        self._changed: set[str] = set()
        self._why: dict[str, str] = {}
        self._unreached: set[str] = set()
        self._secrets: list[str] = []
        self._through: set[str] = set()
        self._notified: dict[str, set[str]] = {}
        self._plays: list[Any] = []
        self._last: str | None = None

    # --- where the end is ---

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._plays = playbook.get_plays()
        gc.freeze()  # Ansible forks a process for each task of each host, and each would copy all that it collects

    def v2_playbook_on_play_start(self, play: Any) -> None:
        # A run that names several playbooks would make this wrong; promring names one.
        last = self._plays and play._uuid == self._plays[-1]._uuid
        self._last = _last_task(play.compile()) if last else None
        self._through.clear()
        whole = os.environ.get("PROMRING_ANSIBLE_VAULT") == "whole"
        self._secrets = sorted(_secrets(play.get_variable_manager().extra_vars, whole=whole), key=len, reverse=True)

    def v2_playbook_on_notify(self, handler: Any, host: Any) -> None:
        self._notified.setdefault(host.get_name(), set()).add(handler._uuid)

    # --- what happens to a host ---

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        if host.get_name() not in self._begun:
            self._begun.add(host.get_name())
            self._say(host.get_name(), "begun")

    def v2_runner_on_ok(self, result: Any) -> None:
        host, _, values = _parts(result)
        if values.get("changed"):
            self._changed.add(host)
        self._say_files(host, values)
        self._done(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._done(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        host, _, values = _parts(result)
        if ignore_errors:
            self._done(result)
            return
        self._why[host] = _why(values)
        self._say_files(host, values)
        self._say(host, "failed", self._why[host])

    def v2_runner_on_unreachable(self, result: Any) -> None:
        host, _, values = _parts(result)
        self._why[host] = _why(values)
        self._unreached.add(host)
        self._say(host, "unreachable", self._why[host])

    def v2_playbook_on_stats(self, stats: Any) -> None:
        counts = {host: stats.summarize(host) for host in stats.processed}
        bad = {host for host, count in counts.items() if count["failures"] or count["unreachable"]} | self._unreached
        for host, count in counts.items():
            if count["unreachable"] or host in self._unreached:
                self._say(host, "unreachable", self._why.get(host, ""))
            elif count["failures"]:
                self._say(host, "failed", self._why.get(host, ""))
            elif bad and host not in self._through:  # one that fails may end the play for all
                self._say(host, "stopped", f"{min(bad)} failed")
            elif count["ok"]:
                self._say_through(host)
            else:
                self._say(host, "nothing", "the playbook did nothing there")

    def _done(self, result: Any) -> None:
        host, task, _ = _parts(result)
        if task._uuid == self._last:
            self._through.add(host)
        waits_for = self._notified.get(host, set())
        waits_for.discard(task._uuid)
        if host in self._through and not waits_for and host not in self._unreached:
            self._say_through(host)

    def _say_through(self, host: str) -> None:
        self._say(host, "changed" if host in self._changed else "ok")

    def _say_files(self, host: str, values: dict[str, Any]) -> None:
        for line in str(values.get("stdout") or "").splitlines():
            if match := FILE.fullmatch(line.strip()):
                self._say(host, match[2], match[3][:WHY_MOST], file=int(match[1]))

    def _say(self, host: str, result: str, why: str = "", **more: int) -> None:
        for secret in self._secrets:
            why = why.replace(secret, "***")
        self._report.write(json.dumps({"host": host, "result": result, "why": why, **more}) + "\n")
        self._report.flush()


def _parts(result: Any) -> tuple[str, Any, dict[str, Any]]:
    """Host name, task and values of a result, in the words of Ansible 2.19 or of those before it."""
    if hasattr(type(result), "result"):
        return result.host.get_name(), result.task, result.result
    return result._host.get_name(), result._task, result._result


def _last_task(blocks: list[Any]) -> str | None:
    """The task that a host which nothing fails on comes to last; None when there is none, or it is not known yet."""
    for block in reversed(blocks):
        for item in reversed([*block.block, *block.always]):
            if hasattr(item, "block"):
                found = _last_task([item])
                if found is not None:
                    return found
            elif "include_" in item.action:
                return None
            elif item.action not in ("meta", "ansible.builtin.meta"):
                return str(item._uuid)
    return None


def _secrets(values: Any, *, whole: bool) -> set[str]:
    """Of extra variables: what a vault held (``whole``: all of it), and values whose names sound like secrets."""
    found: set[str] = set()
    for name, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict):
            found |= _secrets(value, whole=whole or bool(SECRET.search(str(name))))
        elif whole or SECRET.search(str(name)) or type(value).__name__ in VAULTED:
            found |= {str(v) for v in (value if isinstance(value, list) else [value])}
    return {secret for secret in found if len(secret) > 3}


def _why(values: dict[str, Any]) -> str:
    """One line. What a command or a shell said last is worth more than that its status was not 0."""
    for item in values.get("results") or ():
        if isinstance(item, dict) and item.get("failed"):
            values = item
            break
    said = [values.get("stderr"), values.get("module_stderr")] if values.get("rc") else []
    said += [values.get("msg"), values.get("reason"), values.get("censored")]
    text = next((str(s) for s in said if s and str(s).strip()), "no reason given").strip()
    if "Failed to create temporary directory" in text:  # 300 characters of advice, and the place comes after them
        place = TEMPORARY.search(text)
        where = f" in {place[1]}" if place else ""
        text = (
            f"no temporary directory can be made there{where}: set ansible_remote_tmp to a place that this user may write to"
        )
    return text.splitlines()[-1].strip()[:WHY_MOST] if values.get("rc") else " ".join(text.split())[:WHY_MOST]
