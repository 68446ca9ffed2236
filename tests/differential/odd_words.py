"""The words that lists of odd text are made of, and how they are chosen."""

from __future__ import annotations

import random


def many(text: str) -> list[str]:
    return text.split(" ¦ ")


_PLAIN = [
    "a:1 b:1 10.0.0.1:9100 [::1]:9100 ::1 fe80::1%eth0 host host:0 host:65536 host:-1 host:08 host:0x50 //h:1 h/p:1",
    "https://u:p@h/x?y=z#f a.b.c.:1 :9100 h: - -- -a -a:1 --- ... ? ?a : :a a: a:b a::b !a !!str !!str<a> &a &a<b> *a",
    "@a `a` %a %TAG |a >a | > # a#b #a null Null NULL nUll ~ ~a true True yes no on off y n Y 0 00 007 08 0o17 0x1F 0b11",
    "1e3 1E3 +1 -1 1. .5 1_000 _1 1:30 190:20:30 .inf -.INF +.Inf .nan .NaN 2020-01-02 2020-01-02T03:04:05Z 1e400",
    "99999999999999999999 -9223372036854775809 0x1FFFFFFFFFFFFFFFFFFF << = <<: {} [] {a [a a] a} a,b , a{b a[b a]b it's",
    "\"x\" 'x' \"x 'x x\" x' \"\" '' \"a\"b 'a'b 'a''b' \"a\\\"b\" \\ \\n $x ${x} {{x}} %7B é 漢 😀",
    "a\tb \ta a\t a\xa0b \u2028 \x85 \u200b \ufeff \ufffe \x80 \x7f \x01 \U0010ffff",
]
WORDS = [word for line in _PLAIN for word in line.split(" ") if word]
ADDRESSES = ["a:1", "b:1", "c:1", "10.0.0.1:9100", "host.example:9100", "https://x.example/health?q=1"]
NAMES = many("x ¦ y ¦ env ¦ job ¦ instance ¦ __param_x ¦ __param_module ¦ __scheme__ ¦ __metrics_path__ ¦ __tmp ¦ __meta_a")
ODD_NAMES = many(
    "__address__ ¦ __name__ ¦ __scrape_interval__ ¦ __scrape_timeout__ ¦ __promring_id__ ¦ "
    "__param_ ¦ __ ¦ _ ¦ a-b ¦ a.b ¦ a:b ¦ 1a ¦ A ¦ é ¦ le ¦ quantile ¦ null ¦ Null ¦ ~ ¦ yes ¦ "
    '1 ¦ 1.5 ¦ << ¦ = ¦ true ¦ \'x\' ¦ "x" ¦ "a\\x41" ¦ \'\' ¦ "" ¦ !!str ¦ !a ¦ &k ¦ x&k ¦ *k ¦ '
    "[a] ¦ {a} ¦ a? ¦ ?a ¦ a/b ¦ __param_a-b ¦ exported_job ¦ __scheme ¦ __METRICS_PATH__"
)
ODD_VALUES = {
    "__scheme__": ["ftp", "HTTPS", "https", "", "http ", "{{ s }}"],
    "__metrics_path__": ["metrics", "//", "/a?b=c", "/ü", "", "/%zz"],
    "__scrape_interval__": ["soon", "0s", "1d", "5", "-1s", "1h"],
    "__scrape_timeout__": ["soon", "0", "100h", "1ms", ""],
}
QUOTES = "'\""
_ESCAPES = (
    r"\n \t \\ \" \/ \0 \a \b \e \f \v \r \x41 \x80 \u00e9 \ud800 \ud83d\ude00 \U0001f600 \U00110000 \N \_ \L \P \q \x4 \u12"
)
ESCAPES = [*_ESCAPES.split(" "), "\\"]
COMMENTS = ["# x", "#", "#- targets: [z:1]", "# it's: [", "\t# t", "# é"]
HEADS = many(
    " ¦  ¦  ¦  ¦ ---\n ¦ --- # c\n ¦ # c\n ¦ \n\n ¦ %YAML 1.1\n---\n ¦ --- !!seq\n ¦ --- &d\n ¦ "
    "\ufeff ¦ \ufeff---\n ¦   \n ¦ ---\n---\n"
)
TAILS = many(
    " ¦  ¦  ¦  ¦ \n ¦ ...\n ¦ # end ¦ ---\n ¦ ---\n- targets: [z:1]\n ¦ ---\n[ ¦    ¦ \t ¦ \n \n ¦ ... # c\n ¦ null\n ¦ }\n"
)
BREAKS = [*["\n"] * 30, "\r\n", "\r\n", "\r", "\u2028", "\x85"]


class Odd:
    """One list. ``odd``: how likely each of its parts is odd."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.odd = rng.choice([0.01, 0.04, 0.08, 0.15])
        self.anchors: list[str] = []

    def text(self) -> str:
        raise NotImplementedError

    def is_odd(self) -> bool:
        return self.rng.random() < self.odd

    def names(self) -> list[str]:
        """Of labels, seldom one twice."""
        usual = self.rng.sample(NAMES, self.rng.randint(0, 4))
        return [self.one([*ODD_NAMES, *NAMES]) if self.is_odd() else name for name in usual]

    def one(self, of: list[str] | str) -> str:
        """One of the texts, which may be written as one with the mark of ``many`` between them."""
        return self.rng.choice(many(of) if isinstance(of, str) else of)
