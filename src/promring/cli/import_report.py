"""What ``promring import`` prints: the table of jobs, the load of the old server, what to do next, and all of it as data."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from promring.cli.output import Output, say, say_table
from promring.importing.convert import DISCOVERY, PROMRING, SCRAPERS, Converted
from promring.importing.findings import ERROR
from promring.importing.services import PLACE_HOLDERS
from promring.importing.sizing import SERIES_MOST, Load
from promring.importing.verify import Proof
from promring.runtime.text import counted


@dataclass(frozen=True)
class Report:
    """``out``: the folder that was written to, None: nothing was; ``proof``, ``load``: where they were asked for."""

    found: Converted
    out: Path | None
    proof: Proof | None = None
    load: Load | None = None

    def say(self, output: Output) -> None:
        if not output.is_text:
            output.say(self.described())
            return
        for finding in self.found.findings:
            say(str(finding), err=True)
        self._say_jobs()
        if self.load is not None:
            self._say_load(self.load)
        if self.proof is not None:
            self._say_proof(self.proof)
        if self.out is None:
            say("nothing written")
            return
        say(f"written into {self.out}: {', '.join(self.found.files)}")
        self._say_next(self.out)

    def _say_jobs(self) -> None:
        found = self.found
        rows = [
            [judged.job.name, judged.verdict.value, found.names.get(judged.job.name, ""), judged.drops or "", judged.why]
            for judged in found.jobs
        ]
        if rows:
            say_table(["JOB", "VERDICT", "SERVICE", "DROPS", "WHY"], rows, ["DROPS"])
        counts = ", ".join(f"{count} {verdict.value}" for verdict, count in found.counts.items())
        errors = sum(finding.level == ERROR for finding in found.findings)
        more = f"; {counted(errors, 'finding')} to finish" if errors else ""
        say(f"{counted(len(found.jobs), 'job')}: {counts}{more}")

    def _say_proof(self, proof: Proof) -> None:
        jobs = f"{len(proof.compared)} of {len(self.found.jobs)} jobs"
        say(f"{proof.which}: {counted(sum(proof.compared.values()), 'target')} of {jobs} compared, for 1, 2 and 3 scrapers")
        for program in sorted({*proof.discovered.values()}):
            names = ", ".join(name for name in proof.compared if proof.discovered.get(name) == program)
            if names:
                say(f"targets found by {program}, which {proof.program} here cannot find: {names}")
        empty = [name for name, count in proof.compared.items() if not count]
        if empty:
            say(f"without a target now, so nothing is seen of them: {', '.join(empty)}")
        for name, why in proof.not_proved.items():
            say(f"not proved: {name}: {why}")

    def _say_load(self, load: Load) -> None:
        columns = ["JOB", "TARGETS", "SAMPLES A SCRAPE", "SAMPLES/S"]
        rows = [[name, job.targets, job.samples or "?", f"{job.per_second:.0f}"] for name, job in load.jobs.items()]
        say_table(columns, rows, columns[1:])
        scrapers = len(self.found.layout.scrapers) or len(PLACE_HOLDERS)
        each, after = load.each(scrapers), load.each(scrapers - 1)
        say(f"{counted(scrapers, 'scraper')}: {each} samples a scrape each, {after} while one is lost")
        say(f"needed: {counted(load.needed, 'scraper')}, so that none has more than {SERIES_MOST} while one is lost")

    def _say_next(self, out: Path) -> None:
        """How to run it beside the old server, and how to go back."""
        place = shlex.quote(str(out))
        say("next, beside the old server, which goes on:")
        if DISCOVERY in self.found.files:
            listen = self.found.layout.discoverer
            say(f"  prometheus --config.file={place}/{DISCOVERY} --web.listen-address={listen} --storage.tsdb.path=DIR")
        if PROMRING in self.found.files:
            say(f"  promring check {place}/{PROMRING}")
            port = urlsplit(self.found.layout.http_sd or "").port or 9600
            say(f"  promring run --config.file={place}/{PROMRING} --web.listen-address=0.0.0.0:{port} --web.token-file=FILE")
        say(f"  on each new scraper: put {SCRAPERS} where its configuration is, with an external label of its own,")
        if self.found.included:
            say(f"    and beside it, under these names: {', '.join(self.found.included)}")
        if self.found.layout.http_sd:
            say("    with its own host:port in place of SCRAPER")
        elif PROMRING in self.found.files:
            say(f"    and run promring agent --controller URL --scraper HOST:PORT --dir {self.found.layout.slices}")
        say("  then promring status: every target is scraped; then stop the old server")
        say("back: start the old server with its old configuration, which nothing has changed, and stop the others")

    def described(self) -> dict[str, object]:
        """All of it as plain values."""
        found = self.found
        jobs = [
            {
                "job": judged.job.name,
                "file": judged.job.source.name,
                "line": judged.job.node.line,
                "verdict": judged.verdict.value,
                "service": found.names.get(judged.job.name),
                "drops": judged.drops,
                "why": judged.why,
            }
            for judged in found.jobs
        ]
        return {
            "exact": found.exact,
            "written": list(found.files) if self.out is not None else [],
            "jobs": jobs,
            "counts": {verdict.value: count for verdict, count in found.counts.items()},
            "compared_by": self.proof.which if self.proof is not None else None,
            "compared": self.proof.compared if self.proof is not None else None,
            "discovered_by": self.proof.discovered if self.proof is not None else None,
            "not_proved": self.proof.not_proved if self.proof is not None else None,
            "load": _described_load(self.load) if self.load is not None else None,
            "findings": [finding.as_json() for finding in found.findings],
        }


def _described_load(load: Load) -> dict[str, object]:
    jobs = {
        name: {"targets": job.targets, "samples": job.samples, "samples_per_second": job.per_second}
        for name, job in load.jobs.items()
    }
    return {"jobs": jobs, "shared": load.shared, "kept": load.kept, "needed": load.needed}
