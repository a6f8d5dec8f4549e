"""Counting: what is put in comes out, as Prometheus understands it."""

from hypothesis import given
from hypothesis import strategies as st

from swarmd.observing.tallies import SECONDS, Distribution, Distributions, Tally


def test_a_tally_counts_each_set_of_labels_by_itself():
    tally = Tally()
    tally.add("a", "x")
    tally.add("a", "x", count=2)
    tally.add("a", "y")
    assert tally.counts == {("a", "x"): 3, ("a", "y"): 1}


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_each_bucket_has_the_values_up_to_its_bound(values):
    distribution = Distribution(SECONDS)
    for value in values:
        distribution.add(value)
    for bound, count in distribution.buckets():
        assert count == sum(value <= float(bound) for value in values)
    assert distribution.buckets()[-1] == ("+Inf", len(values))
    assert distribution.total == sum(values)


def test_distributions_are_kept_by_labels():
    distributions = Distributions([1, 2])
    distributions.add(1.5, "a")
    distributions.add(5, "b")
    assert distributions.by_labels[("a",)].buckets() == [("1.0", 0), ("2.0", 1), ("+Inf", 1)]
    assert distributions.by_labels[("b",)].buckets() == [("1.0", 0), ("2.0", 0), ("+Inf", 1)]
