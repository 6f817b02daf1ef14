"""What labels say about crashes, whatever somebody wrote into them (row B2)."""

from hypothesis import given
from hypothesis import strategies as st

from eparch.core.crash_retries import COUNT, DELAY, DONE, CrashRetries, crash_retries, labels_for


def test_b2_what_is_written_is_read():
    retries = CrashRetries(count=3, delay_seconds=2.5)
    assert crash_retries(labels_for(retries)) == retries
    assert labels_for(CrashRetries()) == {}
    assert crash_retries(None) == CrashRetries()


@given(
    st.dictionaries(
        st.sampled_from([COUNT, DELAY, DONE]), st.text() | st.floats() | st.integers() | st.booleans()
    )
)
def test_b2_any_label_gives_numbers_within_bounds(labels):
    said = crash_retries(labels)
    assert 0 <= said.count <= 1000
    assert 0 <= said.done <= 1000
    assert 0 <= said.delay_seconds <= 86400
