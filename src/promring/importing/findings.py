"""What ``import`` has to say: one line a finding, with a code that stays what it is. docs/import.md prints ``CODES``.

Levels: ``info`` (nothing to do), ``warning`` (exact, but look at it), ``error`` (not exact: there is something to finish,
and the command ends with 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from promring.runtime.text import printable

INFO, WARNING, ERROR = "info", "warning", "error"


class Code(NamedTuple):
    level: str
    meaning: str


CODES = {
    "PI001": Code(ERROR, "a key that neither Prometheus nor vmagent is known to have; it is carried as it is"),
    "PI002": Code(ERROR, "a copy from a server's page or API, which shows `<secret>` in place of secrets"),
    "PI003": Code(ERROR, "a hashmod rule that is not a plain pair with its keep: the job is not taken"),
    "PI004": Code(
        INFO, "the hashmod rule and its keep are taken out: promring shares the targets, or each scraper has all of them"
    ),
    "PI005": Code(ERROR, "some targets of a job are on the server itself, some are not: it is left on every scraper"),
    "PI006": Code(INFO, "why a job is left on every scraper"),
    "PI007": Code(INFO, "why a job's targets are found by the Prometheus that discovers, and not by promring"),
    "PI008": Code(INFO, "a service has another name than its job, because of its characters or because the name is taken"),
    "PI009": Code(INFO, "sections that are copied unchanged to every scraper"),
    "PI010": Code(WARNING, "rules are evaluated on every scraper, over the series of that scraper only"),
    "PI011": Code(WARNING, "external labels are the same on every scraper"),
    "PI012": Code(INFO, "relative paths are made absolute in the files that get another place"),
    "PI013": Code(INFO, "relative paths in prometheus.yml stay as they are: the files must be on every scraper"),
    "PI014": Code(INFO, "relabelling drops targets: how many rules, and who knows what they drop"),
    "PI015": Code(ERROR, "relabelling reads a label that Prometheus sets by the path or URL of the list, and of a slice"),
    "PI016": Code(WARNING, "relabelling sends the scrapes to the scraper's own machine, such as to a blackbox exporter"),
    "PI017": Code(WARNING, "what names the targets is asked at a loopback address, or read from files: it must be there"),
    "PI018": Code(INFO, "the Prometheus that discovers needs the rights that the old server had"),
    "PI019": Code(
        ERROR,
        "a place-holder such as `$(NAME)`, `${NAME}`, `%{NAME}` or `{{ name }}`, which nobody replaces in the new files, or "
        "which each scraper replaces in a rule that drops targets",
    ),
    "PI020": Code(INFO, "secrets stand in the configuration: files that have them are readable by their owner only"),
    "PI021": Code(ERROR, "a job that is not the same in all inputs: that of the first is used"),
    "PI022": Code(ERROR, "a job, or a part of the configuration, that only another input has: it is not taken"),
    "PI023": Code(INFO, "inputs that differ only in their shard or external labels are one"),
    "PI024": Code(ERROR, "a discovery, a key of one, or a URL among its files, that only vmagent has: the job is not taken"),
    "PI025": Code(INFO, "what only vmagent knows is left out of discovery.yml"),
    "PI026": Code(INFO, "aliases or merges are written out where a job had to be changed; comments in it are lost there"),
    "PI027": Code(WARNING, "a parameter that looks signed would move targets whenever it changes: hash_labels is set"),
    "PI028": Code(ERROR, "an included file that cannot be read here: its jobs are not taken"),
    "PI029": Code(WARNING, "target_limit counts the targets of one scraper now, not those of the job"),
    "PI030": Code(INFO, "the scrapers were not named: write them into promring.yml"),
    "PI031": Code(WARNING, "no job is shared: promring.yml is not written"),
    "PI032": Code(INFO, "the Prometheus program here lacks a discovery or a key of this file, and cannot judge it"),
    "PI033": Code(ERROR, "the targets that the shards have together are not those of the old configuration"),
    "PI034": Code(ERROR, "a job that `--verify` could not prove here: nobody here can judge its targets"),
    "PI035": Code(ERROR, "Prometheus, or promring, refuses a file that was written"),
    "PI036": Code(INFO, "an included file outside the configuration's folder: it is written under included/"),
    "PI037": Code(ERROR, "a path of Windows: no file that promring, or the Prometheus that discovers, reads has that name"),
    "PI038": Code(WARNING, "hashmod in metric_relabel_configs shares series, not targets: each scraper keeps the same part"),
    "PI039": Code(WARNING, "the Prometheus that discovers has the address of a scraper"),
    "PI040": Code(WARNING, "Prometheus refuses it, and the vmagent on PATH takes it: it is read as vmagent's"),
    "PI041": Code(INFO, "a file in UTF-16: it is written in UTF-8"),
    "PI042": Code(WARNING, "one Prometheus program on PATH takes the file, and another one refuses it"),
    "PI043": Code(WARNING, "what every scraper sends to, asks, or goes through, is at a loopback address: its own machine"),
    "PI044": Code(WARNING, "targets are named without a domain: on another machine, that may be another one, or none"),
    "PI045": Code(WARNING, "no file matches a pattern of scrape_config_files here: jobs in such files are not taken"),
    "PI046": Code(INFO, "no Prometheus program is here that could judge the file"),
}


class Finding(NamedTuple):
    """``where``: the key path; ``file_order``: which file; ``what``, ``done``: for people, without secrets."""

    file_order: int
    line: int
    code: str
    file: str
    where: str
    what: str
    done: str = ""

    @property
    def level(self) -> str:
        return CODES[self.code].level

    def __str__(self) -> str:
        where = f" {self.where}:" if self.where else ""
        done = f"; {self.done}" if self.done else ""
        return printable(f"{self.file}:{self.line}:{where} {self.level}: {self.what}{done} [{self.code}]")

    def as_json(self) -> dict[str, str | int]:
        return {
            "file": self.file,
            "line": self.line,
            "path": self.where,
            "level": self.level,
            "what": self.what,
            "done": self.done,
            "code": self.code,
        }


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """By place, each once."""
    return sorted(set(findings))
