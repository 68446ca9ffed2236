"""The process that reads a long YAML list: ``python -m promring.discovery.yaml_worker``, YAML on standard input, JSON on
standard output. Its memory has a limit.
"""

from __future__ import annotations

import sys

import msgspec

from promring.discovery.yaml_list import YamlError, read_yaml
from promring.runtime.rlimit import BYTES_MAX, bound

BAD_YAML = 3
"""Exit status: the text is at fault, standard error says where and why."""


def main() -> None:
    bound(BYTES_MAX)
    try:
        body = msgspec.json.encode(read_yaml(sys.stdin.buffer.read()))
    except (YamlError, RecursionError) as error:
        sys.stderr.write(str(error) if isinstance(error, YamlError) else ": nested too deep")
        sys.exit(BAD_YAML)
    sys.stdout.buffer.write(body)


if __name__ == "__main__":
    main()
