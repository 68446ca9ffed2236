"""Reads a target list in YAML into plain lists, dicts and texts. As a process, ``python -m promring.discovery.yaml_worker``,
it turns YAML on standard input into JSON on standard output.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import yaml

from promring.discovery.memory import BYTES_MAX, bound
from promring.yamlsafe import UnsafeYaml, refuse_unsafe

BAD_YAML = 3
"""Exit status: the text is at fault, standard error says where and why."""
NULLS = ("", "~", "null", None)

_TextLoader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # resolves nothing: every scalar is a text


class YamlError(Exception):
    """What is wrong with the text: ``:LINE: what``, or ``: what``."""


def load_yaml(text: bytes) -> Any:
    """A list of groups without null labels, if the text is one. Raises ``YamlError``."""
    try:
        refuse_unsafe(text, _TextLoader)
        value = yaml.load(text, Loader=_TextLoader)  # noqa: S506 - it makes lists, dicts and texts only
    except UnsafeYaml as error:
        raise YamlError(f":{error.line}: {error.what}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError(f":{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise YamlError(f": {' '.join(str(error).split())}") from error
    for group in value if isinstance(value, list) else ():
        if isinstance(group, dict) and "labels" in group and group["labels"] in NULLS:
            del group["labels"]
    return None if value in NULLS else value


def main() -> None:
    bound(BYTES_MAX)
    try:
        body = msgspec.json.encode(load_yaml(sys.stdin.buffer.read()))
    except (YamlError, RecursionError) as error:
        sys.stderr.write(str(error) if isinstance(error, YamlError) else ": nested too deep")
        sys.exit(BAD_YAML)
    sys.stdout.buffer.write(body)


if __name__ == "__main__":
    main()
