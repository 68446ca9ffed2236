"""Lists of odd text in YAML."""

from __future__ import annotations

from collections.abc import Callable

from tests.differential.odd_words import ADDRESSES, COMMENTS, ESCAPES, HEADS, ODD_VALUES, TAILS, WORDS, Odd


class Yaml(Odd):
    def text(self) -> str:
        head = self.one(HEADS) if self.is_odd() else ""
        pad = self.one(["", "", " ", "    "]) if self.is_odd() else ""
        groups = [self.group(pad) for _ in range(self.rng.randint(0, 4))]
        body = "".join(groups) if groups else self.one(["[]\n", "", "null\n", "~", "- \n"])
        if self.is_odd():
            body = f"{pad}[{', '.join(self.flow_group() for _ in range(self.rng.randint(0, 3)))}]\n"
        return head + body + (self.one(TAILS) if self.is_odd() else "")

    def group(self, pad: str) -> str:
        if self.is_odd():
            return f"{pad}- {self.flow_group()}{self.comment()}\n"
        if self.is_odd():
            return f"{pad}- {self.scalar(False, pad)}\n"
        parts = [self.targets(pad + "  "), *([self.labels(pad + "  ")] if self.rng.random() < 0.7 else [])]
        if self.is_odd():
            self.rng.shuffle(parts)
        if self.is_odd():
            parts.insert(self.rng.randint(0, len(parts)), self.extra(pad + "  "))
        text = "".join(parts)
        anchor = self.anchor() if self.is_odd() else ""
        gap = f" {anchor}\n{pad}  " if anchor else self.one([" ", " ", "   ", "\t", f"\n{pad}  "]) if self.is_odd() else " "
        return f"{pad}-{gap}{text[len(pad) + 2 :]}"

    def flow_group(self) -> str:
        parts = [f"targets: {self.flow_targets()}"]
        if self.rng.random() < 0.6:
            parts.append(f"labels: {self.flow_labels()}")
        if self.is_odd():
            parts.append(self.one(["<<: *a0", "? x", "foo: 1", "", "'targets': []", '"labels":{x: y}', "targets"]))
        return "{" + self.one([", ", ",", " , ", ",\n     "]).join(parts) + self.one(["}", "}", "}", ",}", " }"])

    def extra(self, pad: str) -> str:
        alias = self.alias()
        return (
            pad
            + self.one(
                f"<<: {alias} ¦ <<: [{alias}, {alias}] ¦ foo: bar ¦ Targets: [z:1] ¦ source: x ¦ ? labels ¦ "
                "labels: ¦ targets: [] ¦ # targets: [z:1] ¦ <<: {labels: {m: n}} ¦ <<: {targets: [m:1]} ¦ "
                "!!merge <<: {targets: [m:1]} ¦ labels: {} ¦ <<:"
            )
            + "\n"
        )

    def targets(self, pad: str) -> str:
        key = (
            self.one(["targets:", "'targets':", '"targets":', "? targets\n" + pad + ":", "targets :", "!!str targets:"])
            if self.is_odd()
            else "targets:"
        )
        if self.rng.random() < 0.5:
            return f"{pad}{key} {self.flow_targets()}{self.comment()}\n"
        anchor = f" {self.anchor()}" if self.is_odd() else ""
        inner = pad + self.one(["", "  ", "    "])
        lines = [f"{inner}- {self.address(False)}{self.comment()}\n" for _ in range(self.rng.randint(0, 4))]
        return f"{pad}{key}{anchor}{self.comment()}\n{''.join(lines)}"

    def flow_targets(self) -> str:
        if self.is_odd():
            return self.one(
                f" ¦ ~ ¦ null ¦ [] ¦ {{}} ¦ a:1 ¦ {self.alias()} ¦ [a:1,] ¦ [,] ¦ [a:1,,b:1] ¦ [\n] ¦ "
                "!!seq [a:1] ¦ [a: 1] ¦ ['a':1]"
            )
        between = self.one([", ", ",", " ,", ",\n      ", ", # c\n      "]) if self.is_odd() else ", "
        anchor = f"{self.anchor()} " if self.is_odd() else ""
        return f"{anchor}[{between.join(self.address(True) for _ in range(self.rng.randint(0, 4)))}]"

    def labels(self, pad: str) -> str:
        key = self.one(["labels:", "'labels':", "labels :", "? labels\n" + pad + ":"]) if self.is_odd() else "labels:"
        if self.rng.random() < 0.4:
            return f"{pad}{key} {self.flow_labels()}{self.comment()}\n"
        anchor = f" {self.anchor()}" if self.is_odd() else ""
        inner = pad + self.one(["  ", "    ", "  ", ""] if self.is_odd() else ["  "])
        lines = [f"{inner}{name}: {self.value(name, False, inner)}{self.comment()}\n" for name in self.names()]
        if self.is_odd():
            lines.insert(self.rng.randint(0, len(lines)), f"{inner}<<: {self.merged()}\n")
        return f"{pad}{key}{anchor}{self.comment()}\n{''.join(lines)}"

    def merged(self) -> str:
        return self.one(
            f"{self.alias()} ¦ [{self.alias()}, {self.alias()}] ¦ {{m: n}} ¦ "
            "[{m: n}, {m: o, p: q}] ¦ [] ¦ {} ¦ x ¦ [[{m: n}]]"
        )

    def flow_labels(self) -> str:
        if self.is_odd():
            return self.one(
                f' ¦ ~ ¦ null ¦ {{}} ¦ [] ¦ x ¦ {self.alias()} ¦ {{x}} ¦ {{x: }} ¦ {{x:y}} ¦ {{"x":y}} ¦ '
                "{'x':} ¦ {x: y,} ¦ {,} ¦ {x, y} ¦ {? x : y} ¦ {x: y: z}"
            )
        parts = [f"{name}: {self.value(name, True, '')}" for name in self.names()]
        if self.is_odd():
            parts.append(f"<<: {self.merged()}")
        anchor = f"{self.anchor()} " if self.is_odd() else ""
        return f"{anchor}{{{', '.join(parts)}}}"

    def address(self, flow: bool) -> str:
        return self.scalar(flow, "") if self.is_odd() else self.quoted(self.one(ADDRESSES), flow)

    def value(self, name: str, flow: bool, pad: str) -> str:
        if name in ODD_VALUES and self.rng.random() < 0.3:
            return repr(self.one(ODD_VALUES[name]))
        return self.scalar(flow, pad) if self.is_odd() else self.one(["prod", "a b", "v1", "http_2xx", "https"])

    def quoted(self, text: str, flow: bool) -> str:
        return (
            text if not self.is_odd() else self.one([f"'{text}'", f'"{text}"', f"!!str {text}", f"{self.anchor()} {text}"])
        )

    def scalar(self, flow: bool, pad: str) -> str:
        ways: list[Callable[[], str]] = [
            lambda: self.one(WORDS),
            lambda: self.one(WORDS),
            lambda: self.one(WORDS) + self.one([" ", "  ", "\t", "", "-", ":", "#"]) + self.one(WORDS),
            lambda: '"' + "".join(self.one([*ESCAPES, "a", "é", " ", "'"]) for _ in range(self.rng.randint(0, 3))) + '"',
            lambda: "'" + self.one(WORDS).replace("'", "''") + "'",
            lambda: (
                self.one(
                    ["!!str", "!!int", "!!float", "!!bool", "!!null", "!!binary", "!!timestamp", "!x", "!", "!<y>", "!!map"]
                )
                + " "
                + self.one(WORDS)
            ),
            self.alias,
            lambda: f"{self.anchor()} {self.one(WORDS)}",
            lambda: self.one(
                "[] ¦ {} ¦ [a] ¦ {a: b} ¦ - a ¦  ¦ ? a ¦ ? a : b ¦ [a, {b: c}] ¦ - - a ¦ a: b: c ¦ "
                f"'a': b ¦ {'x' * 1100}"
            ),
            lambda: f"{self.one(WORDS)}{self.one(WORDS)}",
        ]
        if not flow and pad:
            ways += [
                lambda: f"\n{pad}  {self.one(WORDS)}",
                lambda: self.block(pad),
                lambda: f'"a\n{pad}  b\n\n{pad} c"',
                lambda: f"a\n{pad}  b # c\n{pad}  d",
                lambda: f"'a\n{pad}b'",
            ]
        return self.rng.choice(ways)()

    def block(self, pad: str) -> str:
        head = self.one(["|", ">", "|-", ">-", "|+", ">+", "|2", "|1-", ">9", "| # c", "|x", "|0"])
        lines = [
            pad + self.one(["  a", "  a b", "", "   more", "  # no comment", " less", "  \t", "  'x'"])
            for _ in range(self.rng.randint(0, 3))
        ]
        return head + "\n" + "\n".join(lines)

    def anchor(self) -> str:
        name = self.one([f"a{len(self.anchors)}", "a0", "a-b", "é", "a:"]) if self.is_odd() else f"a{len(self.anchors)}"
        self.anchors.append(name)
        return f"&{name}"

    def alias(self) -> str:
        return f"*{self.one(self.anchors)}" if self.anchors and not self.is_odd() else "*a0"

    def comment(self) -> str:
        return self.one([" ", "  ", "", "\n"]) + self.one(COMMENTS) if self.is_odd() else ""
