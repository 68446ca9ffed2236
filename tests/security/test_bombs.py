"""A6: a YAML file that unfolds, nests or goes on without end costs each of its readers a bounded time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rows import Seen

MEMORY_MB_MAX = 200
CPU_S_MAX = 60
"""What only a reader that unfolds the bomb needs; the process is killed then."""
BOMBS = {
    "aliases": "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
    "merges": "a0: &a0 {k: v}\n" + "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
    "deep": "[" * 20_000 + "]" * 20_000,
    "deep below a key": "a: " + "[" * 200_000,
    "deep mappings": "".join(f"{' ' * n}a:\n" for n in range(2_000)),
    "one long text": "a: " + "x" * 3_000_000,
    "many keys": "".join(f"k{n}: 1\n" for n in range(200_000)),
}
READERS = {
    "configuration": "from promring.config.load import loads as read",
    "scrapers": "from pathlib import Path; from promring.membership.file import read_list; "
    "read = lambda text: read_list(text, Path('x.yml'), None)",
    "targets": "from promring.discovery.yaml_list import read_yaml as read",
    "import": "from pathlib import Path; from promring.importing.source import parse_source; "
    "read = lambda text: parse_source(text, Path('x.yml'), 'x.yml')",
    "kubeconfig": "from pathlib import Path; from promring.kubernetes.access import of_kubeconfig; "
    "read = lambda text: (Path('bomb').write_bytes(text), of_kubeconfig(Path('bomb')))",
    "engine": "from promring.discovery.engine_config import jobs_of; read = lambda text: jobs_of(text.decode())",
}
REFUSALS = ("ConfigError", "ListError", "YamlError", "InputError", "ValueError", "TooLargeError")
PROGRAM = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({cpu}, {cpu}))
{reader}
bombs = json.load(sys.stdin)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, text in bombs.items():
    try:
        read(text.encode())
    except Exception as error:
        assert type(error).__name__ in {refusals}, (name, error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.row("A6", did="aliases and merges that unfold, deep nesting, long texts, many keys, to each reader of YAML")
@pytest.mark.parametrize("reader", READERS)
def test_a_bomb_costs_no_reader_much_memory_or_time(reader: str, tmp_path: Path, seen: Seen) -> None:
    program = PROGRAM.format(cpu=CPU_S_MAX, reader=READERS[reader], refusals=REFUSALS)
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(BOMBS), capture_output=True, check=False, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert int(done.stdout) < MEMORY_MB_MAX
    seen(f"{reader}: +{int(done.stdout)} MB")
