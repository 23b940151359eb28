"""Random values of any type, as texts that PostgreSQL reads: plain ones, and nasty ones that are valid all the same."""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Callable, Mapping

import psycopg

from tests.schemas.catalog import Type

TRIES = 80
NULLS = 0.15

TEXTS = [
    "", " ", "  padded  ", "NULL", "null", '"quoted"', "it's", "back\\slash", "\\N", "\\.", "line\nbreak", "\r\n", "\t",
    "ünïcode ☃ 𝄞", "e\u0301", "\u200e\u2028\ufeff", "\x01\x1f\x7f", "a,b;c|d", "{}", "[1, 2]", '{"a": 1}', "%s %(x)s",
    "<b>&amp;</b>", "=1+1", "-", "0", "1e5", "true", "😀" * 40, "x" * 3000, "ẞß", "İı", "$$", "--", "/*",
]  # fmt: skip
DOCUMENTS = [
    "{}", "[]", "[null]", "0", "-0", "1.10", "1e400", "true", '""', '"text"', r'"\"\\\u00fc\n"',
    '{"": {"a": [1, 2.50]}}', '{"b": 1, "a": null}', "[" * 60 + "]" * 60, '{"a":' * 40 + "1" + "}" * 40,
    '[{"ü": "😀"}, "a\\tb", 12345678901234567890]',
    '{"a%b": "%s"}', '["it\'s"]', "[[], {}, \"\"]",
]  # fmt: skip
NASTY = {
    "bool": ["true", "false"],
    "int2": ["-32768", "32767", "0", "-1"],
    "int4": ["-2147483648", "2147483647", "0", "-1"],
    "int8": ["-9223372036854775808", "9223372036854775807", "0", "9007199254740993"],
    "oid": ["0", "4294967295"],
    "float4": ["NaN", "Infinity", "-Infinity", "3.4028235e38", "1e-45", "-0", "0.1"],
    "float8": ["NaN", "Infinity", "-Infinity", "1.7976931348623157e308", "5e-324", "-0", "0.1", "1e21", "100000"],
    "numeric": [
        "NaN", "Infinity", "-Infinity", "0", "0.0", "1.10", "-0.000000000000000000001", "1" + "0" * 60, "1e-40",
        "12345678901234567890.12345678901234567890",
    ],
    "money": ["0", "-0.01", "92233720368547758.07", "-92233720368547758.08"],
    "bytea": ["", r"\x", r"\x00", r"\x00ff10deadbeef", "\\x" + "ab" * 3000],
    "date": ["infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "0001-01-01", "9999-12-31", "10000-01-01"],
    "time": ["00:00:00", "24:00:00", "23:59:59.999999"],
    "timetz": ["00:00:00+15:59:59", "24:00:00-15:59", "12:34:56.7+00"],
    "timestamp": ["infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59", "2024-02-29"],
    "timestamptz": [
        "infinity", "-infinity", "4713-01-02 00:00:00Z BC", "294276-12-31 23:59:59Z",
        "0044-03-15 12:00:00.5Z BC", "2024-06-30 23:59:59.000001+02",
    ],
    "interval": [
        "0", "1 mon -2 days 3.5 seconds", "-178000000 years", "178000000 years", "-1 day 00:00:00.000001", "24:00:00",
    ],
    "varbit": ["", "1", "10101010"],
    "inet": ["0.0.0.0/0", "::", "::1/128", "192.168.0.1", "192.168.0.1/24", "2001:db8::ff00:42:8329/64"],
    "cidr": ["0.0.0.0/0", "10.0.0.0/8", "192.168.1.1/32", "2001:db8::/32"],
    "macaddr": ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"],
    "macaddr8": ["00:00:00:00:00:00:00:00", "08:00:2b:01:02:03:04:05"],
    "hstore": ["", '"a"=>NULL', '""=>""', r'"k\"ey"=>"v\\al", "ü"=>"a,b=>c"'],
    "tsvector": ["", "'fat':1A,2 'r''at':3", "'a b' 'ü'"],
    "tsquery": ["", "'fat' & ( 'rat' | !'cat' )", "'a':*AB <2> 'b'"],
    "pg_lsn": ["0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"],
    "jsonpath": ["$", '$."a b"[*] ? (@ > 1)', "strict $.\"it's\""],
    "point": ["(0,0)", "(-1.5,1e300)", "(NaN,Infinity)"],
    "lseg": ["[(0,0),(1,1)]"],
    "box": ["(1,1),(0,0)"],
    "polygon": ["((0,0),(1,1),(1,0))"],
    "circle": ["<(0,0),1.5>"],
    "path": ["[(0,0),(1,1)]", "((0,0),(1,1))"],
    "line": ["{1,-1,0}"],
    "char": ["", "x", "\\", '"'],
}  # fmt: skip


class Values:
    """Random texts of values.

    Args:
        seed: equal seeds give equal values.
        types: of the catalog.
        connection: checks values of domains.
    """

    def __init__(self, seed: str, types: Mapping[int, Type], connection: psycopg.Connection) -> None:
        self.random = random.Random(seed)
        self._types = types
        self._connection = connection
        self._of_domains: dict[int, list[str]] = {}

    def text(self, oid: int, typmod: int, nastiness: float) -> str:
        """A value of this type.

        Args:
            oid: of the type.
            typmod: its modifier, such as a length, or -1.
            nastiness: how likely it is a nasty value, from 0 to 1.
        """
        type_ = self._types[oid]
        if type_.kind == "d":
            return self._of_domain(type_)
        if type_.element:
            return self._array(type_, typmod, nastiness)
        if type_.labels:
            return self.random.choice(type_.labels)
        if type_.kind == "r":
            return self._range(type_, nastiness)
        if type_.kind == "m":
            return "{" + ",".join(self._range(self._types[type_.subtype], nastiness) for _ in range(self._few())) + "}"
        if type_.parts:
            return "(" + ",".join(self._part(part, nastiness) for part in type_.parts) + ")"
        return self._scalar(type_.name, typmod, nastiness)

    def base_text(self, oid: int, nastiness: float) -> str:
        """A value of a domain's base type, which the domain may refuse."""
        type_ = self._types[oid]
        return self.text(type_.base, type_.base_typmod, nastiness)

    def _few(self) -> int:
        return self.random.choice([0, 1, 1, 2, 3] * 6 + [12])

    def _of_domain(self, type_: Type) -> str:
        """One of some values that the domain accepts."""
        if type_.oid not in self._of_domains:
            drawn = {self.base_text(type_.oid, 0.3) for _ in range(TRIES)}
            self._of_domains[type_.oid] = sorted(text for text in drawn if self.is_accepted(text, type_))
            assert self._of_domains[type_.oid], f"no value of the domain {type_.name} was found"
        return self.random.choice(self._of_domains[type_.oid])

    def is_accepted(self, text: str, type_: Type) -> bool:
        """Whether PostgreSQL accepts a text for a value of this type."""
        try:
            with self._connection.transaction():
                query = self._connection.execute(
                    b"select format('select %%L::%%s', %s::text, %s::oid::regtype)", [text, type_.oid]
                ).fetchone()
                assert query is not None
                self._connection.execute(query[0].encode())
        except (psycopg.DataError, psycopg.IntegrityError):
            return False
        return True

    def _array(self, type_: Type, typmod: int, nastiness: float) -> str:
        if self._types[type_.element].name in ("json", "jsonb"):
            return self._documents(nastiness)
        if self.random.random() < 0.2:
            return "{" + ",".join(self._row(type_, typmod, nastiness, 2) for _ in range(2)) + "}"
        return self._row(type_, typmod, nastiness, self._few())

    def _documents(self, nastiness: float) -> str:
        """An array of JSON whose JSON can be read in one way only: two dimensions look like arrays in one."""
        drawn = [self._scalar("json", -1, nastiness) for _ in range(self._few())]
        items = [in_array(f'{{"array": {text}}}' if text[0] == "[" else text) for text in drawn]
        return "{" + ",".join(["NULL", *items] if self.random.random() < NULLS else items) + "}"

    def _row(self, type_: Type, typmod: int, nastiness: float, length: int) -> str:
        items = [
            "NULL" if self.random.random() < NULLS else in_array(self.text(type_.element, typmod, nastiness))
            for _ in range(length)
        ]
        return "{" + ",".join(items) + "}"

    def _part(self, oid: int, nastiness: float) -> str:
        return "" if self.random.random() < 0.2 else in_array(self.text(oid, -1, nastiness))

    def _range(self, type_: Type, nastiness: float) -> str:
        if self.random.random() < nastiness:
            return self.random.choice(["empty", "(,)", f"[{self._bound(type_)},)", f"(,{self._bound(type_)}]"])
        low, high = self._bound(type_), self._bound(type_)
        if _order(low) > _order(high):
            low, high = high, low
        return f"[{low},{high}]"

    def _bound(self, type_: Type) -> str:
        return self._scalar(self._types[type_.subtype].name, -1, 0)

    def _scalar(self, name: str, typmod: int, nastiness: float) -> str:
        nasty = self.random.random() < nastiness
        if name in ("text", "varchar", "bpchar", "citext", "name"):
            longest = 20 if name == "name" else typmod - 4 if typmod > 4 else 5000
            return self._nasty_text(longest) if nasty else self._plain_text(longest)
        if name in ("json", "jsonb"):
            return self.random.choice(DOCUMENTS) if nasty else f'["{self._plain_text(8)}"]'
        if name == "numeric" and typmod > 4:
            return self._decimal((typmod - 4) >> 16, ((typmod - 4 & 0x7FF) ^ 1024) - 1024, nasty)
        if name == "bit":
            return "".join(self.random.choices("01", k=typmod if typmod > 0 else 1))
        known = NASTY.get(name, [])
        if known and (nasty or name not in PLAIN):
            return self.random.choice(known)[: typmod if name == "varbit" and typmod > 0 else None]
        return PLAIN[name](self.random)

    def _plain_text(self, longest: int) -> str:
        letters = self.random.choice([string.ascii_uppercase, string.ascii_lowercase, string.digits])
        length = longest if longest <= 5 else self.random.randint(1, min(longest, 12))
        return "".join(self.random.choices(letters, k=length))

    def _nasty_text(self, longest: int) -> str:
        text = self.random.choice(TEXTS)
        return (text + self._plain_text(6))[:longest] if self.random.random() < 0.5 else text[:longest]

    def _decimal(self, precision: int, scale: int, nasty: bool) -> str:
        digits = precision if nasty else self.random.randint(1, min(precision, 6))
        value = self.random.randrange(10**digits) * self.random.choice([1, 1, -1])
        return "NaN" if nasty and self.random.random() < 0.1 else f"{value}e{-scale}"


def _order(text: str) -> tuple[float, str]:
    try:
        return float(text), ""
    except ValueError:
        return 0, text


def in_array(text: str) -> str:
    """A value as the text of an array, or of a composite value, has it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _day(given: random.Random) -> str:
    return f"{given.randint(2000, 2030):04}-{given.randint(1, 12):02}-{given.randint(1, 28):02}"


def _time(given: random.Random) -> str:
    return (
        f"{given.randint(0, 23):02}:{given.randint(0, 59):02}:{given.randint(0, 59):02}.{given.randint(0, 999999):06}"
    )


PLAIN: Mapping[str, Callable[[random.Random], str]] = {
    "bool": lambda given: given.choice(["true", "false"]),
    "int2": lambda given: str(given.randint(1, 1000)),
    "int4": lambda given: str(given.randint(1, 1000)),
    "int8": lambda given: str(given.randint(1, 100000)),
    "oid": lambda given: str(given.randint(1, 1000)),
    "float4": lambda given: repr(given.randint(0, 20) / 4),
    "float8": lambda given: repr(given.random() * 5),
    "numeric": lambda given: f"{given.randint(0, 99999)}e{given.randint(-4, 2)}",
    "money": lambda given: f"{given.randint(0, 9999)}.{given.randint(10, 99)}",
    "bytea": lambda given: "\\x" + given.randbytes(given.randint(1, 12)).hex(),
    "uuid": lambda given: str(uuid.UUID(int=given.getrandbits(128))),
    "date": _day,
    "time": _time,
    "timetz": lambda given: _time(given) + "+02",
    "timestamp": lambda given: f"{_day(given)} {_time(given)}",
    "timestamptz": lambda given: f"{_day(given)} {_time(given)}+00",
    "interval": lambda given: f"{given.randint(0, 40)} days {given.randint(0, 90)} minutes",
    "inet": lambda given: f"10.{given.randint(0, 255)}.{given.randint(0, 255)}.{given.randint(1, 254)}",
}
