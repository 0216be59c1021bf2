"Properties of the metrics and of the statistics over models, for any input that hypothesis finds."
import math
import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from diffcirc.circuits.attention import (
    attended_distance, displacements, divergence, entropy, function_test, pattern, received,
    specialization)
from diffcirc.circuits.outcomes import band_errors, octave_masks, region_errors
from diffcirc.denoiser.diffusion import T, add_noise, v_target, x0_from_ε, ε_from_v
from diffcirc.statistics.replication import over_models, paired_flip
from diffcirc.statistics.twosample import kernel_distance, two_sample
from diffcirc.study.samples import nearest
from diffcirc.book.style import Table, escape
from diffcirc.statistics.report import interval

logits = arrays(np.float64, (3, 16, 16), elements=st.floats(-30, 30))
maps = logits.map(lambda a: torch.from_numpy(a).softmax(-1))
fast = settings(max_examples=60, deadline=None)

@given(maps, st.randoms())
@fast
def test_entropy_is_bounded_and_does_not_see_positions(A, rnd):
    H, p = entropy(A), list(range(16))
    rnd.shuffle(p)
    assert (H >= -1e-9).all() and (H <= 4 + 1e-9).all()
    assert torch.allclose(entropy(A[..., p]), H) and torch.allclose(entropy(A[..., p, :]), H)
    assert torch.allclose(specialization(A), 1 - H/4)

@given(maps)
@fast
def test_attended_distance_and_received_attention(A):
    assert (attended_distance(A) <= math.hypot(3, 3)*8/4).all()
    assert torch.allclose(received(A).sum(-1), torch.ones(3, dtype=A.dtype))
    # mirroring image and queries together moves nothing relative to anything
    flip = torch.arange(16).view(4, 4).flip(0).flatten()
    assert torch.allclose(attended_distance(A[..., flip, :][..., flip]), attended_distance(A))

@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_function_test_gives_valid_p_and_sees_no_scale(seed):
    g = np.random.default_rng(seed)
    R, refs = g.random((5, 16)), {'a': g.random((5, 4, 4)), 'b': g.random((5, 4, 4))}
    scaled, turned = ({k: α*v + β for k, v in refs.items()} for α, β in ((2, -5), (-1, 0)))
    a, b = function_test(R, refs), function_test(3*R + 1, scaled)
    assert ((a.p > 0) & (a.p <= 1) & (a.r.abs() <= 1 + 1e-9)).all() and np.allclose(a.r, b.r)
    two = dict(two_sided=('a', 'b'))
    assert np.allclose(function_test(R, turned, **two).p, function_test(R, refs, **two).p)

def test_displacements_are_distinct_permutations():
    d = displacements(4)
    assert d.shape == (128, 16) and len(set(map(tuple, d))) == 128
    assert (np.sort(d, 1) == np.arange(16)).all() and (d[0] == np.arange(16)).all()

def test_a_constant_head_has_no_function():
    r = function_test(np.full((5, 16), 1/16), {'a': np.random.default_rng(0).random((5, 4, 4))})
    assert r.r.abs().max() < 1e-9 and r.p.min() > .05

whole = st.integers(-100, 100).map(float)  # exact under addition
@given(arrays(np.float64, 5, elements=whole), whole)
@fast
def test_paired_flip_is_symmetric_and_bounded(d, shift):
    p = paired_flip(d, 0*d)
    assert p == pytest.approx(paired_flip(0*d, d)) and 2/2**5 <= p + 1e-12 <= 1 + 1e-12
    assert paired_flip(d + shift, np.full(5, shift)) == pytest.approx(paired_flip(d, 0*d))

@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8))
@fast
def test_intervals_over_models_hold_the_mean_and_ignore_the_number_of_images(x):
    f = pd.DataFrame(dict(dataset='a', seed=np.arange(len(x)), y=x))
    once, often = (over_models(d, 'y').iloc[0] for d in (f, pd.concat([f]*7)))
    assert once.lo - 1e-9 <= once['mean'] <= once.hi + 1e-9 and often.n == len(x)
    assert often.lo == pytest.approx(once.lo, abs=1e-6)

@given(st.integers(0, T - 1), st.integers(0, 1000))
@fast
def test_reading_the_noise_from_v_is_exact(t, seed):
    g = torch.Generator().manual_seed(seed)
    x0, ε = torch.randn(2, 1, 1, 4, 4, generator=g, dtype=torch.float64)
    tt = torch.tensor([t])
    x = add_noise(x0, ε, tt)
    assert torch.allclose(ε_from_v(v_target(x0, ε, tt), x, tt), ε, atol=1e-9)
    if t < 950: assert torch.allclose(x0_from_ε(ε, x, tt), x0, atol=1e-6)

@given(st.text())
@fast
def test_text_from_data_cannot_act(s):
    assert not set('<\n\r') & set(escape(s))
    row = Table(pd.DataFrame({'a': [s], 'b': [1]})).markdown().split('\n')
    assert len(row) == 3

def test_divergence_does_not_depend_on_the_order_of_rows():
    g = np.random.default_rng(0)
    f = pd.DataFrame([dict(timestep=t, dataset=d, seed=s, entropy=g.random()) for t in (1, 2)
                      for d in ('synthetic', 'natural') for s in range(4)])
    pd.testing.assert_frame_equal(divergence(f), divergence(f.sample(frac=1, random_state=1)))

def test_small_things():
    assert interval(-1.005, -2, 3, 1, ' %') == '−1.0 % [−2.0, 3.0]'
    assert pattern(.96, 0) == 'uniform distributed'
    x = torch.zeros(2, 1, 4, 4)
    assert nearest(x, x)[0].max() == 0

images = arrays(np.float64, st.tuples(st.integers(1, 3), st.sampled_from((1, 3)),
                                      st.integers(8, 20), st.integers(8, 20)),
                elements=st.floats(-10, 10)).map(torch.from_numpy)

@given(images)
@fast
def test_bands_and_regions_divide_the_error(e):
    "Parseval, for any shape and number of channels; no band is negative; a shift moves no band."
    whole = e.square().mean((1, 2, 3))
    bands = band_errors(e.float()).double()
    share = torch.linspace(0, 1, e.shape[3]).expand(len(e), *e.shape[2:]).double()
    regions = region_errors(e, dict(left=1 - share, right=share))
    assert torch.equal(octave_masks(*e.shape[2:]).sum(0), torch.ones(e.shape[2:]))
    assert (bands >= 0).all() and torch.allclose(bands.sum(1), whole, rtol=1e-4, atol=1e-6)
    assert torch.allclose(regions.sum(1), whole)
    shifted = band_errors(e.roll((3, 5), (2, 3)).float()).double()
    assert torch.allclose(shifted, bands, rtol=1e-3, atol=1e-4*whole.max().item() + 1e-9)

@pytest.mark.parametrize('degree', (1, 2, 3))
def test_the_kernel_distance_is_unbiased(degree):
    "Zero on average for samples of different size from one distribution, skewed and dependent."
    rng = np.random.default_rng(degree)
    def points(n): return rng.exponential(size=(n, 4)).cumsum(1) - 2
    d = np.array([kernel_distance(points(12), points(20), degree) for _ in range(600)])
    assert abs(d.mean()) < 3.3*d.std()/600**.5 and (d < 0).any()
    with_itself = kernel_distance(x := points(12), x, degree)
    assert with_itself < 0  # pairs of a point with itself count between the sets only

def test_the_two_sample_test_does_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 5)), rng.normal(.5, 1, (90, 5))
    ga, gb = np.arange(60) % 6, np.arange(90) % 9
    i, j = rng.permutation(60), rng.permutation(90)
    one, other = two_sample(a, b, ga, gb, 3), two_sample(a[i], b[j], ga[i], gb[j], 3)
    assert one.fold.equals(other.fold)
    assert np.allclose(one.accuracy, other.accuracy, atol=.04)
    swapped = two_sample(b, a, gb, ga, 3)
    assert np.allclose(one.accuracy, swapped.accuracy, atol=.04)
