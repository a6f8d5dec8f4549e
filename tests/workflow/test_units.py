import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.workflow.units import memory_mib, runtime_seconds


@pytest.mark.parametrize(
    ("written", "mib"),
    [
        (512, 512),
        ("500M", 500),
        ("4G", 4096),
        ("1.5g", 1536),
        ("2 GiB", 2048),
        ("1T", 1 << 20),
        ("1K", 1),
        ("0M", 0),
    ],
)
def test_memory_is_read_in_mib(written, mib):
    assert memory_mib(written) == mib


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(90, 90), (0.5, 0.5), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172_800), ("0.5s", 0.5)],
)
def test_a_runtime_is_read_in_seconds(written, seconds):
    assert runtime_seconds(written) == seconds


@pytest.mark.parametrize("written", ["4", "4X", "G", "-1G", "", "4 GG", True, None, 1.5, -1, 1 << 40])
def test_what_is_no_memory_size_is_refused(written):
    with pytest.raises(ValueError, match=r"must be|is no memory size"):
        memory_mib(written)


@pytest.mark.parametrize("written", ["90", "1m1h", "s", "", "1:30", "-5s", True, None, -1, float("nan"), "999999d"])
def test_what_is_no_duration_is_refused(written):
    with pytest.raises(ValueError, match=r"must be|is no duration"):
        runtime_seconds(written)


@given(st.integers(0, 400), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_a_duration_is_the_sum_of_its_parts(days, hours, minutes, seconds):
    text = f"{days}d{hours}h{minutes}m{seconds}s"
    assert runtime_seconds(text) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@given(st.integers(0, 1 << 30))
def test_mebibytes_mean_the_same_with_and_without_their_unit(mib):
    assert memory_mib(f"{mib}M") == memory_mib(mib) == mib
