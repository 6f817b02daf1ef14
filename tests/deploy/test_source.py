"""YAML with positions, and what is said about text that is no YAML (real-files 2.8)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.errors import SourceError, SourceErrors
from eparch.deploy.source import MAX_BYTES, dump, editable, load, parse


def mistakes(text: str) -> tuple[SourceError, ...]:
    with pytest.raises(SourceErrors) as caught:
        parse(text, "f.yaml")
    return caught.value.errors


@pytest.mark.parametrize(
    ("text", "position", "message", "help_"),
    [
        ("a: {{ x }}\n", "1:4", "placeholder must be quoted", 'write "{{ x }}"'),
        ("a:\n  - {{x}}\n", "2:5", "placeholder must be quoted", 'write "{{x}}"'),
        ("a: {{ x }}/b\n", "1:4", "placeholder must be quoted", 'write "{{ x }}/b"'),
        ("b: 1\na: {{ x }}: 3\n", "2:4", "placeholder must be quoted", "quotes"),
        ("a:\n  - b: 1\n c: 2\n", "3:2", "not aligned", "column 2, the lines above in column 3"),
        ("a:\n - b: 1\n  c: 2\n", "3:3", "not aligned", "column 3, the lines above in column 4"),
        ("d:\n  - n: a\n     e: b\n", "3:6", "not aligned", "column 6, the lines above in column 5"),
        ("- a: 1\nx: 1\n", "2:1", "does not belong", "indent one of the two"),
        ("a:\n\tb: 1\n", "2:1", "tab", "use spaces"),
        ("<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> x\n", "1:1", "unfinished merge", "resolve the conflict"),
        ("a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> x\n", "2:1", "unfinished merge", "resolve"),
        ('a: """hi"""\n', "1:4", "Python, not YAML", "write '|'"),
        ("a: 1\nb：2\n", "2:2", "wide colon", ""),
        ("a: 1\n–\u00a0b: [\n", "2:1", "dash", ""),
        ("a: [\n", "2:1", "ends within a value", "close it"),
        ("a: 'x\nb: 2\n", "1:4", "quote is not closed", "close it"),
        ("a: b: c\n", "1:5", "':' stands within a text", "quote the text"),
        ("a: @x\n", "1:4", "cannot start with '@'", "quote the text"),
        ("a: *nope\n", "1:4", "no anchor '&nope'", "definitions"),
        ("a: 1\n---\nb: 2\n", "2:1", "second document", "'---'"),
        ("a: !foo x\n", "1:4", "tag '!foo'", "remove the tag"),
        ("a: !!python/object:os.system x\n", "1:4", "python/object", "remove the tag"),
        ("a: &x [*x]\n", "1:4", "leads back to itself", ""),
        ("a: &x {b: *x}\n", "1:8", "leads back to itself", ""),
        ("? [a]\n: 3\n", "1:3", "key must be a plain text", ""),
        ("<<: 3\n", "1:1", "'<<' takes a mapping", ""),
        ("a: .inf\n", "1:4", "not a number that can be stored", ""),
        ("a: \x01\n", "1", "not valid YAML", ""),
        ('a: "C:\\Users\\x"\n', "1:9", "backslash stands in double quotes", "single quotes"),
        ('a: "\\d+"\n', "1:6", "backslash stands in double quotes", "single quotes"),
        ("a: [1,2\nb: 3\n", "1:4", "'[' is not closed", "line 2"),
        ("a: 1\r\nb: {x\r\nc: 2\r\n", "2:4", "'{' is not closed", "line 3"),
        ("a: 1\r\n b: 2\r\n", "2:2", "not aligned", "column 2, the lines above in column 1"),
        ("a: 1\nb\n", "2:1", "has no ':'", "'key: value'"),
        ("key\nb: 1\n", "2:2", "line above has no ':'", "'key: value'"),
        ("a: 'it's'\n", "1:8", "after a closing quote", "'it''s'"),
        ('a: "{{ x }}" b\n', "1:14", "after a closing quote", "quote the whole text"),
        ("a: - b\n", "1:4", "'- ' stands behind a key", "next line"),
        ("a: 1\n\tb: 1\n", "2:1", "tab", "use spaces"),
    ],
)
def test_each_mistake_has_its_own_message(text: str, position: str, message: str, help_: str) -> None:
    (error,) = mistakes(text)
    assert error.position == f"f.yaml:{position}"
    assert message in error.message
    assert help_ in f"{error.why} {error.fix}"


def test_duplicate_keys_name_both_lines_and_all_are_told() -> None:
    errors = mistakes("a: 1\nb: {c: 1, c: 2}\na: 2\n")
    assert [error.position for error in errors] == ["f.yaml:2:11", "f.yaml:3:1"]
    assert "lines 1 and 3" in errors[1].message


def test_aliases_may_not_multiply() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (error,) = mistakes("\n".join(lines))
    assert "too large" in error.message
    assert "aliases" in error.why


def test_depth_is_limited() -> None:
    (error,) = mistakes("[" * 5000)
    assert "nested too deeply" in error.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.0", 1.0),
        ("1e3", 1000.0),
        ("0x1F", 31),
        ("0o17", 15),
        ("-3", -3),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("2024-01-19", "2024-01-19"),
        ("1:30:00", "1:30:00"),
        ("'1'", "1"),
        ("!!str 1", "1"),
    ],
)
def test_scalars_of_yaml_1_2(text: str, value: object) -> None:
    read = parse(f"a: {text}\n", "f").data["a"]
    assert read == value
    assert type(read) is type(value)


def test_old_booleans_are_noted() -> None:
    document = parse("a: yes\nb: 'no'\n", "f")
    assert [(note.position.line, note.position.column) for note in document.notes] == [(1, 4)]


def test_positions_of_values_keys_and_aliases() -> None:
    document = parse("x: &x\n  deep: [1, {k: v}]\ny: *x\nz:\n  <<: *x\n  own: 1\n", "f")
    assert document.data["z"] == {"own": 1, "deep": [1, {"k": "v"}]}
    assert str(document.at(("x", "deep", 1, "k"))) == "f:2:17"
    assert str(document.key(("x", "deep", 1, "k"))) == "f:2:14"
    assert str(document.at(("y", "deep", 0))) == "f:2:10"
    assert str(document.at(("z", "deep", 0))) == "f:2:10"
    assert str(document.at(("z", "own", "not", "there"))) == "f:6:8"
    assert str(document.at(())) == "f:1:1"


def test_an_alias_in_a_list_stands_where_the_list_is() -> None:
    document = parse("x: &x [1]\ny: [*x, [2]]\n", "f")
    assert [str(document.key(("y", index))) for index in (0, 1)] == ["f:2:4", "f:2:9"]
    assert str(document.at(("y", 0))) == "f:1:4"


def test_merge_prefers_the_own_key_and_the_first_source() -> None:
    text = "a: &a {k: 1, l: 1}\nb: &b {k: 2, m: 2}\nc:\n  <<: [*a, *b]\n  l: 3\n"
    assert parse(text, "f").data["c"] == {"l": 3, "k": 1, "m": 2}


def test_moved_values_are_found_where_they_are_written() -> None:
    document = parse("old:\n  - 1.0\n", "f")
    document.moved(("new", "list"), ("old",))
    assert str(document.at(("new", "list", 0))) == "f:2:5"
    assert document.written(("new", "list", 0)) == "1.0"


@pytest.mark.parametrize(
    ("text", "start", "place"),
    [
        ("a: {{ x }}, {{ x }}", 0, None),
        ("a: 'p {{ x }}, {{ x }}'\n", 2, "1:7"),
        ("a: 'p {{ x }}, {{ x }}'\n", 11, "1:16"),
        ("a: |\n  p\n  q {{ x }}\n", 4, "3:5"),
        ("a: >-\n  p\n  q {{ x }}\n", 4, "3:5"),
        ('a: "p\\n {{ x }}"\n', 3, "1:9"),
    ],
)
def test_text_within_a_value_is_found(text: str, start: int, place: str | None) -> None:
    if place is None:
        mistakes(text)
        return
    assert str(parse(text, "f").find(("a",), "{{ x }}", start)) == f"f:{place}"


keys = st.text("abcdef", min_size=1, max_size=4)
trees = st.recursive(
    st.integers() | st.booleans() | st.none() | st.text("xyz{ :#'\"-\n", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(keys, trees, max_size=4))
def test_reading_agrees_with_the_writer_and_every_value_has_a_place(data: dict[str, object]) -> None:
    text = dump(data)
    document = parse(text, "f")
    assert document.data == data
    lines = text.split("\n")
    for key in data:
        place = document.key((key,))
        assert lines[place.line - 1][place.column - 1 :].lstrip("'\"? ").startswith(key)


def test_d2_comments_survive_a_change() -> None:
    text = "# head\nname: x  # why\ndeployments:\n  # first\n  - name: a\n    tags: ['q']\n"
    document = parse(text, "f")
    data = editable(document)
    data["deployments"][0]["version"] = "2"
    assert dump(data) == text + "    version: '2'\n"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\r\n")
    assert load(path).data == {"name": "x"}
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(SourceErrors, match=r"prefect\.yaml:2: The file is not UTF-8"):
        load(path)
    path.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(SourceErrors, match="too large"):
        load(path)
    with pytest.raises(SourceErrors, match="no such file") as caught:
        load(tmp_path / "prefct.yaml")
    assert caught.value.errors[0].fix == "Did you mean 'prefect.yaml'?"
    with pytest.raises(SourceErrors, match="cannot be read"):
        load(tmp_path)
