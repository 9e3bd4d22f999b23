"""Files of tags: the formats mean the same, whatever is wrong with a line costs only that line, and nothing is quoted."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outhaul.container import Sources
from outhaul.errors import SourceUnreadable
from outhaul.intake.entries import Entries
from outhaul.intake.lines import LINE_BYTES, Bad, Line
from outhaul.intake.reading import TagFile
from outhaul.wire import Source

MIB = 1024 * 1024
keys = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,63}", fullmatch=True)
# Half of a surrogate pair is no text, and an empty value of a CSV file removes the tag.
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
tags = st.dictionaries(texts, st.dictionaries(keys, texts | st.none(), max_size=4), max_size=6)


@pytest.fixture
def read(tmp_path):
    """Write a file, and read it as an import does."""
    sources = Sources(f"file://{tmp_path}/")

    def read(content, named="auto", *done):
        path = tmp_path / "tags"
        path.write_bytes(content)
        return TagFile(sources.open(Source(url=f"file://{path}"), timeout_s=1), named, *done)

    return read


def as_jsonl(told, subject="deviceId"):
    lines = [json.dumps({subject: one, "tags": values}, ensure_ascii=False) for one, values in told.items()]
    return "\n".join(lines).encode()


def as_csv(told, newline="\r\n"):
    text = io.StringIO()
    # Unasked, Python quotes no lone carriage return.
    writer = csv.writer(text, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerow(["deviceId", "key", "value"])
    for one, values in told.items():
        writer.writerows([one, key, value] for key, value in values.items())
    return text.getvalue().encode()


def as_json(told, **layout):
    return json.dumps({"tags": told, "deleteOnNull": True}, **layout).encode()


def gathered(lines):
    found = {}
    for line in lines:
        assert isinstance(line, Line), line
        assert not line.is_user
        found.setdefault(line.subject, {}).update(line.tags)
    return found


def reasons(lines):
    return [(line.number, line.reason) for line in lines if isinstance(line, Bad)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    told=tags, newline=st.sampled_from(["\n", "\r\n"]), bom=st.booleans(), indent=st.sampled_from([None, 1])
)
def test_all_formats_say_the_same(read, told, newline, bom, indent):
    start = b"\xef\xbb\xbf" if bom else b""
    json_text, jsonl_text, csv_text = as_json(told, indent=indent), as_jsonl(told), as_csv(told, newline)
    assert gathered(read(start + json_text)) == told
    assert gathered(read(start + jsonl_text.replace(b"\n", newline.encode()), "jsonl")) == told
    some = {one: values for one, values in told.items() if values}
    assert gathered(read(start + csv_text)) == some
    for text, named in ((json_text, "json"), (csv_text, "csv"), (jsonl_text, "jsonl")):
        for packed in (gzip.compress(start + text), zstandard.compress(start + text)):
            assert gathered(read(packed, named)) == gathered(read(text, named))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(told=tags.filter(lambda told: len(told) > 1), data=st.data())
def test_reading_goes_on_behind_any_line(read, told, data):
    for text, named in ((as_jsonl(told), "jsonl"), (as_csv(told), "csv"), (as_json(told), "json")):
        for content in (text, b"\xef\xbb\xbf" + text, gzip.compress(text)):
            whole = read(content, named)
            lines = list(whole)
            if lines:
                at = data.draw(st.integers(0, len(lines) - 1))
                done = lines[at]
                rest = read(content, named, done.last, whole.bytes_read(done))
                assert [line[:2] + line[3:] for line in rest] == [
                    line[:2] + line[3:] for line in lines[at + 1 :]
                ]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"deviceId,key,value\nd,plan,gold\n", "csv"),
        (b"value,userId,key\r\n", "csv"),
        (b'"deviceId","key","value"\n', "csv"),
        (b'{"deviceId": "d", "tags": {}}\n', "jsonl"),
        (b'{"tags": {}, "userId": "u"}\n', "jsonl"),
        (b'{"deviceId": "d", "tags": {\n{"deviceId": "e", "tags": {}}', "jsonl"),
        (b'nonsense\n\n{"tags": {}, "userId": "u"}\n', "jsonl"),
        (b'{"deviceId": "' + b"x" * 3 * MIB + b'"}\n{"deviceId": "e", "tags": {}}', "jsonl"),
        (b'{"tags": {"d": {}}}', "json"),
        (b'\n {\n "deleteOnNull": true,\n "tags": {}}', "json"),
        (b"", "jsonl"),
        (b"\n \n", "jsonl"),
    ],
)
def test_the_format_is_found_out(read, content, found):
    assert read(content).format == found
    assert read(gzip.compress(content)).format == found


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"hello\n", "auto"),
        (b"deviceId;key;value\n", "auto"),
        (b"deviceid,key,value\n", "auto"),
        (b"deviceId,key,value,more\n", "csv"),
        (b"\xff\xfed\0e\0", "auto"),
        (b"PK\x03\x04\0\0", "auto"),
        (b"[1]", "json"),
        (b'{"d": {"plan": "gold"}}', "auto"),
        (b'{"tags": {"d": {"k": "v"}}, "deleteOnNull": 1}', "json"),
        (b"\x1f\x8bnothing", "auto"),
        (gzip.compress(as_csv({"d": {"k": "v" * 900}}), mtime=0)[:-9], "auto"),
    ],
)
def test_what_is_no_file_of_tags_is_refused(read, content, named):
    with pytest.raises(SourceUnreadable) as caught:
        list(read(content, named))
    assert caught.value.hint
    assert "gold" not in str(caught.value)


GOOD = '{"deviceId": "good", "tags": {"k": "v"}}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("secret", "malformed"),
        ("[1]", "malformed"),
        ("{}", "malformed"),
        ('{"deviceId": "secret"}', "malformed"),
        ('{"deviceId": "secret", "tags": []}', "malformed"),
        ('{"deviceId": "secret", "userId": "secret", "tags": {}}', "malformed"),
        ('{"deviceId": 7, "tags": {}}', "malformed"),
        ('{"deviceId": "", "tags": {}}', "malformed"),
        ('{"deviceId": "d", "tags": {}, "secret": 1}', "malformed"),
        ('{"deviceId": "\\ud83d", "tags": {}}', "malformed"),
        ('{"tags": {"k": "v"}}', "malformed"),
        ("[" * 100_000, "malformed"),
        ('{"deviceId": "%s", "tags": {}}' % ("secret" * 50), "unknown_device"),
        ('{"userId": "%s", "tags": {}}' % ("secret" * 50), "unknown_user"),
        ('{"deviceId": "d", "tags": {"secret key": "v"}}', "tag_invalid"),
        ('{"deviceId": "d", "tags": {"k\\n": "v"}}', "tag_invalid"),
        ('{"deviceId": "d", "tags": {"k": 1}}', "tag_invalid"),
        ('{"deviceId": "d", "tags": {"good": "x", "k": "%s"}}' % ("secret" * 200), "tag_invalid"),
        ('{"deviceId": "d", "tags": {"k": "%s"}}' % ("secret" * 200_000), "too_long"),
    ],
)
def test_a_bad_line_costs_itself_and_is_not_quoted(read, line, reason):
    lines = list(read(f"{GOOD}\n{line}\n\n{GOOD}".encode(), "jsonl"))
    assert [type(one) for one in lines] == [Line, Bad, Line]
    assert [one.number for one in lines] == [1, 2, 4]
    assert lines[1].reason == reason
    assert lines[1].detail
    assert "secret" not in lines[1].detail
    entry = json.loads(line).get("tags") if line.startswith('{"deviceId": "d"') else None
    if entry is not None and reason != "malformed":
        found = list(read(b'{"tags": {"a": {}, "d": %b, "b": {}}}' % json.dumps(entry).encode()))
        assert reasons(found) == [(2, reason)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("secret", "malformed"),
        ("secret,k", "malformed"),
        ("secret,k,v,more", "malformed"),
        (",k,v", "malformed"),
        ('secret,k,"open', "malformed"),
        ('secret,k,"a"b', "malformed"),
        ('secret,"k,v', "malformed"),
        ("s" * 256 + ",k,v", "unknown_device"),
        ("d,9k,v", "tag_invalid"),
        ("d,,v", "tag_invalid"),
        ("d,k," + "secret" * 200, "tag_invalid"),
        ("d,k," + "secret" * 200_000, "too_long"),
    ],
)
def test_a_bad_row_costs_itself_and_is_not_quoted(read, row, reason):
    text = f'deviceId,key,value\ngood,k,v\n{row}\n\nnext,k,"1\n2"\nlast,k,\n'
    lines = list(read(text.encode()))
    assert reasons(lines) == [(3, reason)]
    assert "secret" not in next(line.detail for line in lines if isinstance(line, Bad))
    good = [line for line in lines if isinstance(line, Line)]
    assert [(line.subject, line.tags, line.number, line.last) for line in good] == [
        ("good", {"k": "v"}, 2, 2),
        ("next", {"k": "1\n2"}, 5, 6),
        ("last", {"k": None}, 7, 7),
    ]


def test_bytes_that_are_no_text(read):
    assert reasons(read(b"deviceId,key,value\n\xff,k,v\nd,k,\xff\nd,k,v", "csv")) == [
        (2, "malformed"),
        (3, "malformed"),
    ]
    assert reasons(read(b'{"deviceId": "\xff", "tags": {}}', "jsonl")) == [(1, "malformed")]
    assert reasons(read(b'{"tags": {"\xff": {}, "d": {}}}')) == [(1, "malformed")]


def test_users_in_every_line_format(read):
    for content in (b'{"userId": "u", "tags": {"k": "v"}}', b"key,userId,value\nk,u,v"):
        (line,) = read(content)
        assert (line.subject, line.is_user, line.tags) == ("u", True, {"k": "v"})


def test_nulls_of_an_object_remove_only_where_it_says_so_even_last(read):
    nulls = b'"tags": {"d": {"k": null, "l": "v"}}'
    for content, expected in (
        (b"{%b}", {"l": "v"}),
        (b'{%b, "deleteOnNull": false}', {"l": "v"}),
        (b'{"deleteOnNull": null, %b}', {"l": "v"}),
        (b'{%b, "deleteOnNull": true}', {"k": None, "l": "v"}),
        (b'{"deleteOnNull" : true , %b}', {"k": None, "l": "v"}),
        (b'{"other": {"tags": [1, "}"]}, %b, "deleteOnNull": true, "more": "\\"{"}', {"k": None, "l": "v"}),
    ):
        (line,) = read(content % nulls, "json")
        assert line.tags == expected


def test_an_entry_that_is_broken_or_too_long_costs_itself(read):
    long = b'"x": {"k": "%b"}' % (b'\\"{}[],' * MIB)
    deep = b'"x": %b' % (b"[" * 100_000 + b"]" * 100_000)
    for bad, reason in (
        (b"nonsense", "malformed"),
        (b'"x" 1', "malformed"),
        (b'"x": {"k": "v"} "y": {}', "malformed"),
        (b'"x": ["k"]', "malformed"),
        (b'"": {}', "malformed"),
        (deep, "malformed"),
        (b'"%b": {}' % (b"x" * 256), "unknown_device"),
        (long, "too_long"),
        (long.replace(b"x", b"x" * 2 * MIB), "too_long"),
    ):
        content = b'{"tags": {"a": {"k": "v"},%b , "b": {"k": "w"} } }' % bad
        lines = list(read(content, "json"))
        assert reasons(lines) == [(2, reason)], bad[:50]
        assert [line.subject for line in lines if isinstance(line, Line)] == ["a", "b"]


def test_an_object_that_is_cut_short_keeps_what_came_before(read):
    content = as_json({"a": {"k": "v"}, "b": {"k": "w"}})
    for end in range(content.index(b'"b"') + 1, content.index(b"}}")):
        lines = list(read(content[:end], "json"))
        assert [line.subject for line in lines[:-1]] == ["a"]
        assert reasons(lines) == [(2, "malformed")]
    for more in (b" {}", b"}", b" x"):
        assert reasons(read(content + more, "json")) == [(3, "malformed")]


@settings(max_examples=100, deadline=None)
@given(told=tags, size=st.integers(1, 30), limit=st.integers(0, 60), indent=st.sampled_from([None, 2]))
def test_an_object_is_cut_the_same_wherever_its_pieces_end(told, size, limit, indent):
    content = as_json(told, indent=indent)
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    entries = Entries(pieces, limit=limit, kept={b'"deleteOnNull"'})
    cut = [content for _, content in entries]
    assert {name: value.strip() for name, value in entries.members.items()} == {b'"deleteOnNull"': b"true"}
    assert len(cut) == len(told)
    for raw, one in zip(cut, told.items(), strict=True):
        whole = json.loads(b"{%b}" % raw) if raw is not None else None
        assert whole in (None, dict([one]))
        if raw is None:
            assert len(json.dumps(dict([one]), indent=indent).encode()) > limit - 40


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"x" * 32 * MIB,
        b'deviceId,key,value\n"' + b"x" * 100 + b",\n" + b"xxxxxxxx,\n" * 100_000,
        b'deviceId,key,value\n"' + b"\n" * 300_000,
        b'{"tags": {"d": {"k": "' + b"\\\\" * 16 * MIB,
        b'{"tags": {"d": ' + b"[" * 1_200_000,
        b'{"tags": {}, ' + b",".join(b'"m%d": "%b"' % (n, b"x" * 900_000) for n in range(40)) + b"}",
        (b" " * 200 + b"\n") * 100_000,
    ],
    ids=["line", "quote", "blanks behind a quote", "string", "brackets", "members", "blank"],
)
def test_memory_stays_bounded_whatever_comes(read, content, packed):
    named = {b"d": "csv", b"{": "json"}.get(content[:1], "jsonl")
    file = read(gzip.compress(content, 1) if packed else content, named)
    tracemalloc.start()
    try:
        count = sum(1 for _ in file)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count <= MIB + 1
    assert peak < 16 * LINE_BYTES
