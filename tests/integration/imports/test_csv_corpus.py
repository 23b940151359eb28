"""Files as people have them, each with what becomes of it.

They are written as these programs write them, or are like the files of these collections:

- Excel: https://support.microsoft.com/office/save-a-workbook-to-text-format-txt-or-csv-3e9a9d6c-70da-4255-aa28-fcacf1f081e6
- LibreOffice Calc: https://help.libreoffice.org/latest/en-US/text/shared/00/00000207.html
- PostgreSQL's COPY: https://www.postgresql.org/docs/current/sql-copy.html (the file is made by COPY itself, too)
- pandas' `DataFrame.to_csv`: https://pandas.pydata.org/docs/reference/api/pandas.DataFrame.to_csv.html
- csv-spectrum, a suite of edge cases: https://github.com/max-mapper/csv-spectrum
- RFC 4180: https://www.rfc-editor.org/rfc/rfc4180
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from typing import Any

import pytest
import zstandard

from tests.integration.imports.harness import Bench
from tests.integration.imports.test_declared_tables import declare
from wherry.imports.models import ImportOptions, UnknownFields

TABLE = """create table t (
  id int, name text, amount numeric, day date, ok boolean, note varchar(10), tags text[], extra jsonb, at timestamp,
  code uuid, size double precision, big bigint, bytes bytea, state state, span interval, made timestamptz default now(),
  "two words" text, "a""b" text, doubled int generated always as (id * 2) stored
)"""
FILE = -1


@dataclass(frozen=True)
class Case:
    """A file and what becomes of it.

    Attributes:
        rows: what is in the table, by column, as PostgreSQL's text.
        faults: of records, or of the file: index, code and field.
    """

    name: str
    text: bytes
    rows: list[dict[str, str | None]] = field(default_factory=list)
    faults: list[tuple[int, str, str | None]] = field(default_factory=list)
    charset: str | None = None
    options: ImportOptions = field(default_factory=ImportOptions)


def ok(name: str, text: bytes | str, *rows: dict[str, str | None], **more: Any) -> Case:
    """A file that is imported."""
    return Case(name, text.encode() if isinstance(text, str) else text, list(rows), **more)


def bad(name: str, text: bytes | str, *faults: tuple[int, str, str | None], **more: Any) -> Case:
    """A file with errors."""
    return Case(name, text.encode() if isinstance(text, str) else text, faults=list(faults), **more)


A, B = {"id": "1", "name": "a"}, {"id": "2", "name": "b"}
UMLAUT = {"id": "1", "name": "Größe €"}
WRONG = "INVALID_FIELD_TYPE"
FORM = "INVALID_FIELD_FORMAT"
RAGGED = "INVALID_RECORD_STRUCTURE"

CASES = [
    # How a file is written
    ok("lf", "id,name\n1,a\n2,b\n", A, B),
    ok("crlf", "id,name\r\n1,a\r\n2,b\r\n", A, B),
    ok("no line end at the end", "id,name\n1,a\n2,b", A, B),
    ok("mixed line ends", "id,name\r\n1,a\n2,b\r\n", A, B),
    ok("semicolons", "id;name\n1;a\n2;b\n", A, B),
    ok("tabs", "id\tname\n1\ta\n2\tb\n", A, B),
    ok("vertical bars", "id|name\n1|a\n2|b\n", A, B),
    ok("commas in a file with semicolons", "id;name\n1;a,b\n", {"id": "1", "name": "a,b"}),
    ok("semicolons in a file with commas", "name,id\na;b,1\n", {"id": "1", "name": "a;b"}),
    ok("the line of Excel that names the delimiter", "sep=;\r\nid;name\r\n1;a\r\n", A),
    ok("everything quoted", '"id","name"\r\n"1","a"\r\n"2","b"\r\n', A, B),
    ok("blank lines", "\r\nid,name\r\n\r\n1,a\r\n   \r\n2,b\r\n\r\n", A, B),
    ok("one column", "name\na\n\nb\n", {"name": "a"}, {"name": "b"}, {"name": None}),
    ok("a header and nothing else", "id,name\n", faults=[(FILE, "EMPTY_FILE", None)]),
    bad("nothing", "\n", (FILE, "EMPTY_FILE", None)),
    ok("gzip", gzip.compress(b"id,name\n1,a\n"), A),
    ok("zstd", zstandard.compress(b"id,name\n1,a\n"), A),
    bad("carriage returns only", "id,name\r1,a\r", (FILE, "PARSE_ERROR", None)),
    # Encodings
    ok(
        "utf-8 with a mark, as Excel's CSV UTF-8",
        b"\xef\xbb\xbfid,name\r\n1,Gr\xc3\xb6\xc3\x9fe \xe2\x82\xac\r\n",
        UMLAUT,
    ),
    ok("utf-16 with tabs, as Excel's Unicode Text", "id\tname\r\n1\tGröße €\r\n".encode("utf-16"), UMLAUT),
    ok("utf-16 with the other byte order", "\ufeffid,name\n1,Größe €\n".encode("utf-16-be"), UMLAUT),
    ok("windows-1252, declared", "id;name\r\n1;Größe €\r\n".encode("cp1252"), UMLAUT, charset="windows-1252"),
    ok("iso-8859-15, declared", "id;name\r\n1;Größe €\r\n".encode("iso-8859-15"), UMLAUT, charset="iso-8859-15"),
    ok("mac roman, declared", "id,name\n1,Größe €\n".encode("mac-roman"), UMLAUT, charset="macintosh"),
    ok("shift jis, declared", "id,name\n1,表\n".encode("shift-jis"), {"id": "1", "name": "表"}, charset="shift-jis"),
    bad(
        "windows-1252, not declared",
        "id,name\n1,a\n2,Größe\n".encode("cp1252"),
        (1, "ENCODING_ERROR", None),
        rows=[A],
    ),
    bad("windows-1252 in the header", "id,name,Größe\n".encode("cp1252"), (FILE, "ENCODING_ERROR", None)),
    bad("utf-32", "id,name\n1,a\n".encode("utf-32"), (FILE, "ENCODING_ERROR", None)),
    bad("half a character of utf-16", "id,name\n1,a\n".encode("utf-16")[:-1], (FILE, "ENCODING_ERROR", None)),
    # Cells
    ok("a comma in quotes (csv-spectrum)", 'id,name\n1,"a,b"\n', {"id": "1", "name": "a,b"}),
    ok("quotes in quotes (csv-spectrum)", 'id,name\n1,"ha ""ha"" ha"\n', {"id": "1", "name": 'ha "ha" ha'}),
    ok("line ends in quotes (csv-spectrum)", 'id,name\n1,"a\nb"\n2,b\n', {"id": "1", "name": "a\nb"}, B),
    ok("quotes and line ends (csv-spectrum)", 'id,name\n1,"a\n""b"""\n', {"id": "1", "name": 'a\n"b"'}),
    ok("json (csv-spectrum)", 'id,extra\n1,"{""a"": [1, ""b""]}"\n', {"id": "1", "extra": '{"a": [1, "b"]}'}),
    ok(
        "empty cells (csv-spectrum)",
        'id,name,note\n1,"",""\n2,,\n',
        {"id": "1", "name": "", "note": ""},
        {"id": "2", "name": None, "note": None},
    ),
    ok("crlf in quotes (RFC 4180)", 'id,name\r\n1,"a\r\nb"\r\n', {"id": "1", "name": "a\r\nb"}),
    ok("spaces are part of a field (RFC 4180)", "id,name\n1, a \n", {"id": "1", "name": " a "}),
    ok("a quote in a cell without quotes", 'id,name\n1,5" pipe\n2,b\n', {"id": "1", "name": '5" pipe'}, B),
    ok("an apostrophe", "id,name\n1,'a\n", {"id": "1", "name": "'a"}),
    ok("a formula", "id,name\n1,=1+1\n", {"id": "1", "name": "=1+1"}),
    ok("the header's spaces", " id , name \n1,a\n", A),
    ok("a name with a space", "id,two words\n1,x\n", {"id": "1", "two words": "x"}),
    ok("a name with a quote", 'id,"a""b"\n1,x\n', {"id": "1", 'a"b': "x"}),
    ok("unicode", "id,name\n1,\N{SNOWMAN}\N{PILE OF POO}\n", {"id": "1", "name": "\N{SNOWMAN}\N{PILE OF POO}"}),
    bad("NUL", b"id,name\n1,a\n2,b\0b\n", (1, FORM, "name"), rows=[A]),
    bad(
        "NUL in JSON",
        'id,extra,tags\n1,"{""a"": ""\\u0000""}","[""\\u0000""]"\n',
        (0, FORM, "tags"),
        (0, FORM, "extra"),
    ),
    # Types
    ok(
        "numbers",
        "id,amount,size,big\n+1,007.50,.5,9223372036854775807\n",
        {"id": "1", "amount": "7.50", "size": "0.5", "big": "9223372036854775807"},
    ),
    ok("exponents", "id,amount,size\n1,1e3,1E-3\n", {"id": "1", "amount": "1000", "size": "0.001"}),
    ok("not a number", "id,amount,size\n1,NaN,-Infinity\n", {"id": "1", "amount": "NaN", "size": "-Infinity"}),
    ok(
        "booleans",
        "id,ok\n1,TRUE\n2,f\n3,Yes\n4,0\n",
        *({"id": str(n), "ok": text} for n, text in enumerate(("true", "false", "true", "false"), 1)),
    ),
    ok(
        "dates and times",
        "id,day,at\n1,2024-02-29,2024-02-29 13:14:15.5\n",
        {"id": "1", "day": "2024-02-29", "at": "2024-02-29 13:14:15.5"},
    ),
    ok("an array", 'id,tags\n1,"[""a"", null]"\n', {"id": "1", "tags": "{a,NULL}"}),
    ok(
        "others",
        "id,code,bytes,state,span\n1,A0EEBC999C0B4EF8BB6D6BB9BD380A11,AAEC,new,P1D\n",
        {
            "id": "1",
            "code": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "bytes": "\\x000102",
            "state": "new",
            "span": "P1D",
        },
    ),
    bad("decimal commas", 'id,amount\n1,"1,5"\n', (0, WRONG, "amount")),
    bad("thousands separators", 'id,amount,big\n1,"1,000","1 000"\n', (0, WRONG, "amount"), (0, WRONG, "big")),
    bad("a currency", "id,amount\n1,$5\n", (0, WRONG, "amount")),
    bad("a number with a fraction", "id\n1.5\n", (0, WRONG, "id")),
    bad("a number that is too large", "id\n3000000000\n", (0, FORM, "id")),
    bad("a word that is no boolean", "id,ok\n1,on\n", (0, WRONG, "ok")),
    bad("a day that does not exist", "id,day\n1,2023-02-29\n", (0, FORM, "day")),
    bad("an array as PostgreSQL writes it", 'id,tags\n1,"{a,b}"\n', (0, FORM, "tags")),
    bad("a word where JSON must be", "id,extra\n1,word\n", (0, FORM, "extra")),
    bad("a label that does not exist", "id,state\n1,old\n", (0, "INVALID_ENUM_VALUE", "state")),
    bad("a text that is too long", "id,note\n1,12345678901\n", (0, "FIELD_TOO_LONG", "note")),
    # Lines and headers
    bad("ragged lines", "id,name\n1,a\n3\n4,a,b\n2,b\n", (1, RAGGED, None), (2, RAGGED, None), rows=[A, B]),
    bad("a comma too many at the end of each line", "id,name\n1,a,\n", (0, RAGGED, None)),
    ok("a comma too many in the header, too", "id,name,\n1,a,\n", A),
    bad("something after a quoted cell", 'id,name\n1,"a"b\n2,b\n', (0, "PARSE_ERROR", None), rows=[B]),
    bad("a quote that is never closed", 'id,name\n1,a\n2,"b\n3,c\n', (1, "PARSE_ERROR", None), rows=[A]),
    bad("a header twice", "id,name,name\n1,a,b\n", (FILE, "PARSE_ERROR", None)),
    bad("no known header", "nr,title\n1,a\n", (FILE, "PARSE_ERROR", None)),
    bad("no header", "1,a\n2,b\n", (FILE, "PARSE_ERROR", None)),
    bad("a header in capitals", "ID,NAME\n1,a\n", (FILE, "PARSE_ERROR", None)),
    ok(
        "a header in capitals, with columns",
        "ID,NAME\n1,a\n",
        A,
        options=ImportOptions(columns={"ID": "id", "NAME": "name"}),
    ),
    ok(
        "a column that is ignored",
        "id,name\n1,a\n",
        {"id": "1", "name": None},
        options=ImportOptions(columns={"name": None}),
    ),
    ok("an unknown header", "id,name,colour\n1,a,red\n", A),
    bad(
        "an unknown header that is refused",
        "id,colour\n1,red\n",
        (0, RAGGED, "colour"),
        options=ImportOptions(unknown_fields=UnknownFields.ERROR),
    ),
    ok("a generated column", "id,name,doubled\n1,a,7\n", A | {"doubled": "2"}),
    # As programs write tables with all of these
    ok(
        "Excel in German",
        'id;name;amount;ok;day\r\n1;"a;b";2;WAHR;2024-01-02\r\n'.encode("cp1252").replace(b"WAHR", b"TRUE"),
        {"id": "1", "name": "a;b", "amount": "2", "ok": "true", "day": "2024-01-02"},
        charset="windows-1252",
    ),
    ok(
        "LibreOffice with all text cells quoted",
        '"id","name","amount","ok"\n1,"a ""b""",2.5,TRUE\n2,,,FALSE\n',
        {"id": "1", "name": 'a "b"', "amount": "2.5", "ok": "true"},
        {"id": "2", "name": None, "amount": None, "ok": "false"},
    ),
    ok(
        "pandas",
        'id,name,amount,ok,day\n1,"a,b",1.5,True,2024-01-02\n2,"q""q",,False,\n3,,10000000000.0,,2024-02-03\n',
        {"id": "1", "name": "a,b", "amount": "1.5", "ok": "true", "day": "2024-01-02"},
        {"id": "2", "name": 'q"q', "amount": None, "ok": "false", "day": None},
        {"id": "3", "name": None, "amount": "10000000000.0", "ok": None, "day": "2024-02-03"},
    ),
    ok("pandas with its index", ",id,name\n0,1,a\n1,2,b\n", A, B),
    bad(
        "pandas, whose whole numbers have a fraction beside missing ones",
        "id,name\n1.0,a\n,b\n",
        (0, WRONG, "id"),
        rows=[{"id": None, "name": "b"}],
    ),
    bad("pandas with decimal commas", "id;amount\n1;1,5\n", (0, WRONG, "amount")),
    ok(
        "COPY",
        'id,name,note,ok,day\n1,"a,b","",t,2024-01-02\n2,"\\N",,f,\n',
        {"id": "1", "name": "a,b", "note": "", "ok": "true", "day": "2024-01-02"},
        {"id": "2", "name": "\\N", "note": None, "ok": "false", "day": None},
    ),
]


@pytest.fixture
async def place(bench: Bench) -> Bench:
    return await declare(bench, "create type state as enum ('new', 'sold');" + TABLE, t="public.t")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_file(place: Bench, case: Case) -> None:
    job = await place.run("t", case.text, format="csv", charset=case.charset, options=case.options)
    assert await place.faults(job) == case.faults
    names = sorted({name for row in case.rows for name in row})
    shown = ", ".join('"{}"::text'.format(name.replace('"', '""')) for name in names)
    columns = f"select {shown} from t order by id, name" if shown else "select from t"
    found = await place.rows(columns)
    assert [{name: row[name] for name in expected} for row, expected in zip(found, case.rows, strict=True)] == case.rows


def test_there_are_enough_of_them() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


async def test_a_file_that_copy_has_written(place: Bench) -> None:
    await place.do(
        "insert into t (id, name, amount, day, ok, note, extra, at, code, size, state) values "
        "(1, E'a\"b,\\nc', 1.50, '2024-02-29', true, '', '{\"a\": \"x\"}', '2024-02-29 01:02:03', "
        "gen_random_uuid(), 0.1, 'new'), "
        "(2, null, 'NaN', null, false, null, null, null, null, 'Infinity', null)"
    )
    names = "id, name, amount, day, ok, note, extra, at, code, size, state"
    before = await place.rows(f"select t::text from (select {names} from t order by id) as t")
    async with place.pool.connection() as connection, connection.cursor() as cursor:
        async with cursor.copy(f"copy (select {names} from t order by id) to stdout (format csv, header)") as copy:
            text = b"".join([bytes(piece) async for piece in copy])
    await place.do("truncate t")
    job = await place.run("t", text, format="csv")
    assert await place.errors(job) == []
    assert await place.rows(f"select t::text from (select {names} from t order by id) as t") == before
