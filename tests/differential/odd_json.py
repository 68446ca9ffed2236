"""Lists of odd text in JSON."""

from __future__ import annotations

from collections.abc import Callable

from tests.differential.odd_words import ADDRESSES, ESCAPES, ODD_VALUES, QUOTES, WORDS, Odd


class Json(Odd):
    def text(self) -> str:
        space = self.one(["\n", "\t", " ", "\r\n", "\u00a0", "\x0c", "\x00"]) if self.is_odd() else ""
        groups = [self.group() for _ in range(self.rng.randint(0, 4))]
        if self.is_odd():
            groups.append(self.one(["", "null", "{}", "[]", "1", '"x"', "// c", "/* c */"]))
        tail = self.one(["", "\n", " ", "]", ",", "\x00", "x", "\ufeff", "null", "\n# c"]) if self.is_odd() else ""
        head = self.one(["\ufeff", " ", "\n", "# c\n", "// c\n", "[", "\x00"]) if self.is_odd() else ""
        return f"{head}{space}[{space}{(',' + space).join(groups)}{space}]{tail}"

    def group(self) -> str:
        parts = [f"{self.key('targets')}:{self.targets()}"]
        if self.rng.random() < 0.7:
            parts.insert(self.rng.randint(0, 1), f"{self.key('labels')}:{self.labels()}")
        if self.is_odd():
            parts.append(
                self.one(
                    '"targets":null ¦ "labels":null ¦ "source":"x" ¦ "":1 ¦ "TARGETS":["z:1"] ¦ '
                    '"labels":{"m":"n"} ¦ "labels":{} ¦ "targets":[] ¦ "targets":["z:1"] ¦ '
                )
            )
        return "{" + self.one([",", ", ", "\n,"]).join(parts) + "}"

    def key(self, name: str) -> str:
        if not self.is_odd():
            return f'"{name}"'
        return self.one(
            f'"{name.upper()}" ¦ "{name.title()}" ¦ \'{name}\' ¦ {name} ¦ "{name[:-1]}\\u0073" ¦ '
            f'"{name} " ¦ "{name[:-1]}\u017f" ¦ "{name}"  ¦ "{name}\\u0000"'
        )

    def targets(self) -> str:
        if self.is_odd():
            return self.one(
                'null ¦ [] ¦ "" ¦ "a:1" ¦ {} ¦ 0 ¦ [null] ¦ [[]] ¦ ["a:1",] ¦ true ¦ [,] ¦ ["a:1" "b:1"] ¦ [1] ¦  ¦ NULL'
            )
        return "[" + self.one([",", ", ", "\n,\t"]).join(self.string(ADDRESSES) for _ in range(self.rng.randint(0, 4))) + "]"

    def labels(self) -> str:
        if self.is_odd():
            return self.one(
                'null ¦ {} ¦ [] ¦ "" ¦ 0 ¦ {"x"} ¦ {"x":} ¦ {x:1} ¦ {"x":"y",} ¦ false ¦ {"x":null} ¦ '
                '{1:"x"} ¦ {"x":"y" "z":"w"} ¦ {"x":["y"]}'
            )
        pairs = []
        for name in self.names():
            value = (
                f'"{self.one(ODD_VALUES[name])}"'
                if name in ODD_VALUES and self.is_odd()
                else self.string(["prod", "a b", "https", "v1"])
            )
            pairs.append(f'"{name.strip(QUOTES)}":{value}')
        return "{" + ",".join(pairs) + "}"

    def string(self, usual: list[str]) -> str:
        if not self.is_odd():
            return f'"{self.one(usual)}"'
        ways: list[Callable[[], str]] = [
            lambda: '"' + self.one(WORDS).replace("\\", "\\\\").replace('"', '\\"') + '"',
            lambda: '"' + self.one(WORDS) + '"',
            lambda: (
                '"'
                + "".join(
                    self.one([*ESCAPES, "\\uD800", "\\udfff", "\\u0000", "\\ufeff", "é", "\t", "\\u20", "\\U0041"])
                    for _ in range(self.rng.randint(0, 4))
                )
                + '"'
            ),
            lambda: self.one(
                "null ¦ true ¦ false ¦ 0 ¦ -0 ¦ 01 ¦ 1e3 ¦ 1.5 ¦ 1E400 ¦ -1 ¦ .5 ¦ NaN ¦ Infinity ¦ 0x1 ¦ "
                "99999999999999999999999 ¦ [] ¦ {} ¦ '' ¦ nul ¦ 'x' ¦ x"
            ),
            lambda: '"' + self.one(usual) + self.one([" ", "/", "%", ":", "\\u0000", "\\ud83d", "\u2028"]) + '"',
        ]
        return self.rng.choice(ways)()
