import json

from hypothesis import given
from hypothesis import strategies as st

from eparch.core.redaction import SHORTEST, redact, secret_texts


def test_what_is_secret_is_hidden_in_every_form_of_it():
    data = {
        "user": "somebody",
        "password": 'pa"ss\nline two',
        "env": {"KEY": ["first value", 123456], "on": True},
        "child": {"token": "tok-1", "name": "visible"},
        "pin": "1",
    }
    texts = secret_texts(data, ("password", "env.*", "child.token", "pin"))
    said = f"somebody {data} {json.dumps(data)} visible tok-1 line two 123456 1"
    hidden = redact(said, texts)
    for secret in ('pa"ss', "line two", "first value", "123456", "tok-1"):
        assert secret not in hidden
        assert json.dumps(secret)[1:-1] not in hidden
    assert "somebody" in hidden
    assert "visible" in hidden
    assert "1" in hidden


def test_a_secret_within_a_longer_one_does_not_leave_the_rest_of_it():
    assert redact("abcdefgh", {"abcd", "abcdefgh"}) == "********"


VALUES = st.recursive(
    st.text() | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [str(value).strip()] if isinstance(value, str | int) and not isinstance(value, bool) else []


@given(VALUES, st.sampled_from([("value",), ("value.*",)]))
def test_no_secret_is_left_whatever_it_is(value, secrets):
    if secrets == ("value.*",) and isinstance(value, list):
        return
    texts = secret_texts({"value": value}, secrets)
    for leaf in leaves(value):
        if len(leaf) >= SHORTEST:
            assert leaf in texts
