from __future__ import annotations

import pytest
import yaml

from brain_tuning.strict_yaml import parse_yaml


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1e-4", 1e-4),
        ("-2.5E3", -2500.0),
        (".5e2", 50.0),
        ("1.5e+1", 15.0),
        ("0.25", 0.25),
        ("7", 7),
        ("1e4x", "1e4x"),
        ("e5", "e5"),
        ("'1e-4'", "1e-4"),
    ],
)
def test_numbers_with_an_exponent(written: str, read: object) -> None:
    value = parse_yaml(f"a: {written}")["a"]
    assert value == read
    assert type(value) is type(read)


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [("a: 1\nb: 2\na: 3", "a", 3), ("x:\n  s: 1\n  s: 1", "s", 3), ("x: {1: a, 1: b}", "1", 1)],
)
def test_a_key_given_twice_is_refused_with_both_places(text: str, key: str, line: int) -> None:
    with pytest.raises(yaml.YAMLError, match=rf"the key '?{key}'? is given") as caught:
        parse_yaml(text)
    assert f'and given again\n  in "<unicode string>", line {line},' in str(caught.value)


def test_merged_keys_may_be_overridden() -> None:
    assert parse_yaml("base: &base {a: 1, b: 2}\nours: {<<: *base, b: 3}")["ours"] == {"a": 1, "b": 3}


def test_a_key_that_is_a_list_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="unhashable key"):
        parse_yaml("? [1, 2]\n: 3")
