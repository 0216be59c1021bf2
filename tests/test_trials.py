"""A broken instrument must not pass for a sound one on planted circuits; and planted circuits must
be what they claim."""
from functools import partial
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from diffcirc.trust import planted, trials
from diffcirc.denoiser.diffusion import add_noise, make_exam
from diffcirc.denoiser.sites import mean, zero

@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad(): yield

sound = partial(trials.by_ablation, mean)

def shuffled(denoiser, exam, names):  # site names no longer belong to their numbers
    d = sound(denoiser, exam, names)
    return d.assign(site=d.site.map(dict(zip(names, np.random.default_rng(3).permutation(names)))))

def reversed_sign(denoiser, exam, names):
    d = sound(denoiser, exam, names)
    return d.assign(score=-d.score)

def constant(denoiser, exam, names): return sound(denoiser, exam, names).assign(score=1.)

def off_by_one(denoiser, exam, names):
    d = sound(denoiser, exam, names)
    return d.assign(site=d.groupby('timestep').site.transform(np.roll, 1))

def test_a_sound_instrument_passes():
    assert trials.try_out(sound, seeds=3, n=16) == 1.
    assert trials.try_out(trials.by_patching, seeds=3, n=16) == 1.

@pytest.mark.parametrize('broken', [shuffled, reversed_sign, constant, off_by_one],
                         ids=lambda f: f.__name__)
def test_a_broken_instrument_is_caught(broken):
    assert trials.try_out(broken, seeds=3, n=16) < trials.GOOD

def test_zero_ablation_is_misled_by_a_constant_and_mean_ablation_is_not():
    p = planted.wired(2)
    names = list(p.truth(300))
    exam = make_exam(p.draw(16, 0), (300,))
    block = f"enc1.res{next(i for i, r in p.checks['roles'].items() if r == 'constant')}"
    def score(edit):
        return trials.by_ablation(edit, p.denoiser, exam, names).set_index('site').score[block]
    assert score(zero) > .1 and abs(score(mean)) < 1e-5

def test_an_instrument_that_leaves_a_site_out_is_named():
    def leaves_out(denoiser, exam, names):
        return sound(denoiser, exam, [n for n in names if n != 'enc1.res0'])
    with pytest.raises(ValueError, match='one score per timestep; wrong for enc1.res0'):
        trials.try_out(leaves_out)

@pytest.mark.parametrize('t', [50, 300, 700])
def test_no_linear_denoiser_beats_the_closed_form(t):
    "Least squares on many pairs comes close to the exact error from above."
    λ = planted.variances(3)
    x0 = planted.gaussian_images(λ)(20_000, 1)
    ε = planted.normal(20_000, 2, 1, 4, 4)
    X, Y = add_noise(x0, ε, torch.full((20_000,), t)).flatten(1).double(), ε.flatten(1).double()
    W = torch.linalg.lstsq(X[:10_000], Y[:10_000]).solution
    err = float((X[10_000:] @ W - Y[10_000:]).square().mean())
    exact = planted.exact_error(λ, t)
    assert exact*.98 < err < exact*1.05

@settings(max_examples=30)
@given(st.lists(st.floats(0, 50), min_size=2, max_size=10), st.integers(1, 990))
def test_exact_impacts_agree_with_the_prior_error(λ, t):
    "Without all subspaces the error of ε̂ = 0 is 1, so the impacts add up to (1 − error)/error."
    e = planted.exact_error(λ, t)
    if e > 1e-9: assert np.isclose(planted.exact_impact(λ, t).sum(), (1 - e)/e, rtol=1e-6)

scored_sites = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=10)

@settings(max_examples=60)
@given(scored_sites.filter(lambda sites: 0 < sum(true for _, true in sites) < len(sites)))
def test_precision_at_k_is_the_mean_over_tie_breaks(sites):
    scores, true = (np.array(v) for v in zip(*sites))
    k, rng = true.sum(), np.random.default_rng(0)
    orders = [np.lexsort((rng.random(len(scores)), -scores)) for _ in range(2000)]
    mean_share = np.mean([true[o[:k]].mean() for o in orders])
    assert abs(trials.precision_at_k(scores, true) - mean_share) < .06

def test_the_same_seed_plants_the_same_network():
    torch.set_grad_enabled(True)
    a, b = (planted.copy_task(0, 3) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a.denoiser.parameters(), b.denoiser.parameters()))
    assert a.checks == b.checks and a.truth(300) == b.truth(300)
