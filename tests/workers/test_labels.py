"""Labels of jobs as each platform takes them (row W23)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.workers.labels import for_aws, for_azure, for_google, for_kubernetes

WORD = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
DOMAIN = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
RULES = {
    for_kubernetes: (rf"({DOMAIN}/)?{WORD}", rf"({WORD})?", None),
    for_google: (r"[a-z][a-z0-9_-]{0,62}", r"[a-z0-9_-]{0,63}", 64),
    for_aws: (r"(?!aws:)[A-Za-z0-9 +\-=._:/@]{1,128}", r"[A-Za-z0-9 +\-=._:/@]{0,256}", 50),
    for_azure: (r"[^<>%&\\?/]{1,512}", r"[\s\S]{0,256}", 50),
}
OURS = {
    "prefect.io/flow-run-id": "01a20486-378c-7c37-a70c-a6005c7ce019",
    "prefect.io/flow-run-name": "Ünïcode & spaces",
    "prefect.io/version": "0.1.0+local",
    "prefect.io/deployment-updated": "2026-11-22T18:00:00+00:00",
    "team": "data",
}
texts = st.text(max_size=20) | st.text("ab/.-_:A ", max_size=300) | st.sampled_from(["aws:x", "a b", "a-b"])


@pytest.mark.parametrize("platform", RULES)
@given(st.dictionaries(texts, texts, max_size=60))
def test_w23_whatever_the_labels_the_platform_takes_them(platform, labels):
    key_rule, value_rule, most = RULES[platform]
    made = platform(labels)
    for key, value in made.items():
        assert re.fullmatch(key_rule, key), key
        assert len(key.rpartition("/")[0]) <= 253 or platform is not for_kubernetes
        assert re.fullmatch(value_rule, value), value
    assert most is None or len(made) <= most
    assert platform(made) == made


def test_w23_what_is_legal_stays_and_the_rest_is_near():
    made = for_kubernetes(OURS)
    assert made["prefect.io/flow-run-id"] == OURS["prefect.io/flow-run-id"]
    assert made["prefect.io/flow-run-name"] == "n-code-spaces"
    assert made["prefect.io/deployment-updated"] == "2026-11-22T18-00-00-00-00"
    assert for_google(OURS)["prefect-io-flow-run-id"] == OURS["prefect.io/flow-run-id"]
    assert for_aws(OURS)["prefect.io/version"] == "0.1.0+local"
    assert for_azure(OURS)["prefect.io-flow-run-name"] == "Ünïcode & spaces"
    assert for_kubernetes({"": "x", "//": "y", "-._": "z"}) == {}


def test_w23_labels_that_would_fall_together_stay_apart():
    made = for_kubernetes({"a b": "1", "a-b": "2", "a:b": "3"})
    assert made["a-b"] == "2"
    assert sorted(made.values()) == ["1", "2", "3"]
    long = for_kubernetes({"k" * 70 + "1": "v" * 70 + "1", "k" * 70 + "2": "v" * 70 + "2"})
    assert len(set(long)) == len(set(long.values())) == 2
