"""Dealing people out: what holds for any set of photographs."""
import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from diffcirc.faces.data import ATTRIBUTES, FaceSet
from diffcirc.faces.people import (
    dealt, distinct, halves, nested, sample_counts, training_rows, with_replacement)

people = st.lists(st.integers(0, 12), min_size=4, max_size=60).map(np.array)
some = people.filter(lambda ids: len(set(ids)) >= 4)

def faces(ids):
    "Pictures that differ, each of one grey."
    x = torch.linspace(-1, 1, len(ids))[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    return FaceSet('orl', x, pd.DataFrame(np.nan, range(len(ids)), ATTRIBUTES), ids)

@settings(max_examples=60, deadline=None)
@given(some, st.integers(1, 4), st.integers(0, 9))
def test_dealt_parts_share_nobody_and_lose_nobody(ids, k, seed):
    parts = dealt(ids, k, seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(ids)))
    who = [set(ids[p]) for p in parts]
    assert sum(map(len, who)) == len(set(ids))
    sizes = list(map(len, parts))
    assert max(sizes) - min(sizes) <= np.unique(ids, return_counts=True)[1].max()
    assert all(np.array_equal(a, b) for a, b in zip(parts, dealt(ids, k, seed)))

def test_other_seeds_deal_otherwise():
    ids = np.arange(40)
    assert set(dealt(ids, 2, 0)[0]) != set(dealt(ids, 2, 1)[0])
    assert list(with_replacement(ids, 0)) != list(with_replacement(ids, 1))

@settings(max_examples=60, deadline=None)
@given(some, st.integers(0, 9))
def test_who_is_drawn_twice_brings_every_photograph_twice(ids, seed):
    rows = with_replacement(ids, seed)
    assert len(rows) == len(ids) and set(rows) <= set(range(len(ids)))
    assert np.array_equal(rows, with_replacement(ids, seed))
    times = np.bincount(rows, minlength=len(ids))
    uneven = [p for p in set(ids) if len(set(times[ids == p])) > 1]
    assert len(uneven) <= 1  # the last one, cut

@settings(max_examples=60, deadline=None)
@given(some, st.integers(1, 4), st.integers(1, 30))
def test_training_rows_are_disjoint_whenever_that_gives_enough(ids, seeds, n):
    rows = training_rows(ids, seeds, n)
    enough = min(map(len, dealt(ids, seeds))) >= n
    assert len(rows) == seeds and (not enough or min(map(len, rows)) >= n)
    if enough: assert sum(len(set(ids[r])) for r in rows) == len(set(ids))
    else: assert {len(r) for r in rows} == {len(ids)}

@settings(max_examples=40, deadline=None)
@given(some, st.integers(0, 9))
def test_halves_are_equal_and_share_nobody(ids, seed):
    f = faces(ids)
    a, b = halves(f, seed)
    assert len(a) == len(b) and not set(a.ids) & set(b.ids)
    most = np.unique(ids, return_counts=True)[1].max()
    assert 2*len(a) >= len(f) - most
    assert [x.fingerprint for x in halves(f, seed)] == [a.fingerprint, b.fingerprint]

@settings(max_examples=40, deadline=None)
@given(people, st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_nested_sets_hold_one_another(ids, sizes):
    f = faces(ids)
    if max(sizes) > len(f):
        with pytest.raises(ValueError, match='cannot be had'): nested(f, sizes)
        return
    sets = nested(f, sizes)
    assert {n: len(s) for n, s in sets.items()} == {n: n for n in sizes}
    for n, s in sets.items():
        for m in sets:
            if m <= n: assert s[:m].fingerprint == sets[m].fingerprint

@settings(max_examples=40, deadline=None)
@given(some, st.integers(0, 9))
def test_distinct_images_and_counts(ids, seed):
    f = faces(ids)
    rows = with_replacement(ids, seed)
    sample = f[rows]
    assert len(distinct(sample)) == len(set(rows))
    assert sample[distinct(sample)].ids.tolist() == f[rows[np.sort(
        np.unique(rows, return_index=True)[1])]].ids.tolist()
    c = sample_counts({('natural', 0): sample, ('natural', 1): f}).iloc[0]
    assert c.distinct == (len(set(rows)) + len(f))/2
    assert c.shared_people == pytest.approx((1 + len(set(sample.ids))/len(set(ids)))/2)
