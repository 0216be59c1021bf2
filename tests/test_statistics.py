"""What the chapter on statistics cannot show: properties on random data, agreement of the room's
functions with each other, and the error rates of tests and verdicts in studies with known truth."""
import math
import numpy as np, pandas as pd, pytest
from hypothesis import assume, given, settings, strategies as st
from scipy import stats
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.effect_size import _noncentrality_t
from statsmodels.stats.multitest import multipletests
from diffcirc.core import paper_numbers
from diffcirc.statistics.effects import (
    cohens_d, d_from_summary, detectable, effective_n, power, required_n, words)
from diffcirc.statistics.replication import (
    GROUPS, UNITS, cluster_bootstrap, compare, mean_squares, mixed_effect, paired_flip, simulated)
from diffcirc.statistics.tests import adjust, adjust_by, bca, ks, permutation, tost, tost_p
from diffcirc.statistics.verdicts import level_verdict, verdict, verdicts

numbers = st.floats(-100, 100, allow_subnormal=False).map(lambda v: round(v, 3))
def samples(lo=2, hi=12): return st.lists(numbers, min_size=lo, max_size=hi).map(np.array)
def spread(*xs): assume(max(np.ptp(x) for x in xs) > .01)
WORDS = ('holds', 'contradicted', 'inconclusive')

# --- effect size ----------------------------------------------------------------------------------

@settings(max_examples=80, deadline=None)
@given(samples(), samples())
def test_d_is_antisymmetric(a, b):
    spread(a, b)
    e, f = cohens_d(a, b), cohens_d(b, a)
    np.testing.assert_allclose([e.d, e.lo, e.hi, e.p], [-f.d, -f.hi, -f.lo, f.p], rtol=1e-5,
                               atol=1e-6)
    eps = 1e-6*(1 + abs(e.d))
    assert e.lo <= e.d + eps and e.d <= e.hi + eps and e.word == f.word == words(e.d)

@settings(max_examples=80, deadline=None)
@given(samples(), samples(), st.floats(.01, 100), st.floats(-50, 50))
def test_d_does_not_depend_on_units(a, b, scale, shift):
    spread(a, b)
    e, f, g = cohens_d(a, b), cohens_d(scale*a + shift, scale*b + shift), cohens_d(-a, -b)
    np.testing.assert_allclose([f.d, f.lo, f.hi, f.p], [e.d, e.lo, e.hi, e.p], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(g.d, -e.d, rtol=1e-9, atol=1e-12)

@settings(max_examples=60, deadline=None)
@given(samples(2, 10).flatmap(lambda a: st.tuples(st.just(a), samples(len(a), len(a)))))
def test_paired_d_agrees_with_the_paired_t_test(ab):
    a, b = ab
    spread(a - b)
    z, av = cohens_d(a, b, 'd_z'), cohens_d(a, b, 'd_av')
    t = stats.ttest_rel(a, b)
    np.testing.assert_allclose([z.t, z.p, av.p], [t.statistic, t.pvalue, t.pvalue], rtol=1e-6,
                               atol=1e-9)
    assert np.sign(z.d) == np.sign(av.d)
    h = z.df/2
    J = math.exp(math.lgamma(h) - math.lgamma(h - .5) - math.log(h)/2) if z.df > 1 else 1
    assert cohens_d(a, b, 'd_z', hedges=True).d == pytest.approx(z.d*J)

@settings(max_examples=60, deadline=None)
@given(st.floats(-1e5, 1e5), st.integers(2, 2000), st.integers(2, 2000))
def test_the_interval_of_d_exists_for_any_size_of_effect(m, n1, n2):
    e = d_from_summary(m, 1., n1, 0., 1., n2)
    eps = 1e-4*(1 + abs(e.d))
    assert np.isfinite([e.lo, e.hi]).all() and e.lo < e.hi
    assert e.lo <= e.d + eps and e.d <= e.hi + eps
    wide = d_from_summary(m, 1., n1, 0., 1., n2, level=.99)
    assert wide.lo <= e.lo and e.hi <= wide.hi

def test_the_interval_of_d_covers_the_true_effect():
    g = np.random.default_rng(0)
    hits = []
    for _ in range(600):
        e = cohens_d(g.normal(.7, 1, 8), g.normal(0, 1, 8))
        hits.append(e.lo <= .7 <= e.hi)
    assert .925 < np.mean(hits) < .975

def test_summary_and_values_agree_with_statsmodels():
    g = np.random.default_rng(1)
    a, b = g.normal(.5, 1, 25), g.normal(0, 2, 31)
    e = cohens_d(a, b)
    s = d_from_summary(a.mean(), a.std(ddof=1), 25, b.mean(), b.std(ddof=1), 31)
    np.testing.assert_allclose(s[1:7], e[1:7])
    ref = _noncentrality_t(e.t, e.df, alpha=.05)
    expected = np.array(ref.confint)*math.sqrt(1/25 + 1/31)
    np.testing.assert_allclose([e.lo, e.hi], expected, rtol=1e-4)
    with pytest.raises(ValueError, match='negative'): d_from_summary(0, -1, 5, 0, 1, 5)

def test_the_paper_file_holds_tables_1_and_4():
    paper = paper_numbers()
    t1, t4 = paper['table1'], paper['table4']
    assert all(len(r) == len(t['columns']) for t in (t1, t4) for r in t['rows'])
    assert len(t1['rows']) == len(t4['rows']) == 4 and t1['rows'][3][1] is None
    f = pd.DataFrame(t4['rows'], columns=t4['columns'])
    np.testing.assert_allclose(f.natural - f.synthetic, f.difference, atol=1e-9)
    def p(n):
        return [d_from_summary(r.natural, r.natural_sd, n, r.synthetic, r.synthetic_sd, n).p
                for r in f.itertuples()]
    np.testing.assert_allclose(p(100), [.061, .81, .080, .52], rtol=.02)
    np.testing.assert_allclose(p(2000), [6e-17, .29, 4e-15, .004], rtol=.2)

# --- power ----------------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(st.floats(.1, 3), st.floats(.5, .99), st.sampled_from([.05, .0125, .001]), st.booleans())
def test_required_n_is_the_smallest(d, target, alpha, paired):
    n = required_n(d, target, alpha, paired)
    assert power(d, n, alpha, paired) >= target
    assert n == 2 or power(d, n - 1, alpha, paired) < target
    smallest = detectable(n, target, alpha, paired)
    assert power(smallest, n, alpha, paired) == pytest.approx(target, abs=1e-4)

@settings(max_examples=60, deadline=None)
@given(st.floats(0, 60), st.integers(2, 5000), st.booleans())
def test_power_is_a_probability_and_grows(d, n, paired):
    p = power(d, n, paired=paired)
    assert .0499 < p <= 1 + 1e-9
    assert power(d + .5, n, paired=paired) >= p - 2e-3
    assert power(d, n + 1, paired=paired) >= p - 2e-3

@given(st.integers(1, 1000), st.integers(1, 20), st.floats(0, 1))
def test_images_are_worth_between_models_and_themselves(i, m, icc):
    assert m - 1e-6 <= effective_n(i, m, icc) <= i*m + 1e-6

# --- bootstrap ------------------------------------------------------------------------------------

@settings(max_examples=40, deadline=None)
@given(samples(3, 15), st.integers(0, 5))
def test_the_bootstrap_interval_contains_the_mean(x, seed):
    i = bca(x, n=499, seed=seed)
    eps = 1e-9*(1 + abs(i.estimate))
    assert i.lo <= i.estimate + eps and i.estimate <= i.hi + eps
    assert min(x) - eps <= i.lo and i.hi <= max(x) + eps
    assert i == bca(x, n=499, seed=seed)

@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(.1, 10), st.floats(-5, 5))
def test_the_bootstrap_interval_moves_with_the_units(seed, scale, shift):
    # ties would hinge on rounding
    x = np.random.default_rng(seed).exponential(size=15)
    i, j = bca(x, n=299), bca(scale*x + shift, n=299)
    np.testing.assert_allclose([j.lo, j.hi], [scale*i.lo + shift, scale*i.hi + shift],
                               atol=.02*scale*(i.hi - i.lo))

def test_the_bootstrap_says_what_it_did():
    assert bca([2., 2.]).method == 'none: constant' and bca([2.]).method == 'none: one value'
    assert bca(np.arange(9.)).method == 'BCa'
    i = bca((np.array([1., 2, 4]), np.array([3., 5, 9])), lambda a, b: b.mean() - a.mean(), n=199)
    assert i.lo < i.estimate < i.hi

def test_the_cluster_bootstrap_is_wider_than_that_of_images():
    # every row its own "model"
    f = simulated(6, 50, sd_model=1., seed=2)
    models = cluster_bootstrap(f, 'value', n=999).set_index('group')
    g = f.assign(seed=f.index)
    images = cluster_bootstrap(g, 'value', within=None, n=999).set_index('group')
    def width(t): return float(t.hi['difference'] - t.lo['difference'])
    assert width(models) > 3*width(images)
    a, b = (t.estimate['difference'] for t in (models, images))
    assert a == pytest.approx(b)

def test_pairs_of_seeds_are_drawn_together():
    # what the seed adds cancels within pairs
    f = simulated(8, 30, 0, .1, .1, seed=3)
    f['value'] += f.seed*5.
    w = {p: cluster_bootstrap(f, 'value', paired=p, n=499).set_index('group')
         for p in (True, False)}
    assert (w[True].hi - w[True].lo)['difference'] < .2*(w[False].hi - w[False].lo)['difference']
    with_heads = pd.concat([f.assign(head=h) for h in range(3)])
    pd.testing.assert_frame_equal(*(cluster_bootstrap(t, 'value', n=99) for t in (with_heads, f)))

# --- tests without a distribution -----------------------------------------------------------------

@settings(max_examples=40, deadline=None)
@given(samples(1, 6), samples(1, 6), st.booleans())
def test_the_permutation_p_is_never_below_the_smallest_attainable(a, b, paired):
    if paired: b = np.resize(b, len(a))
    r, s = permutation(a, b, paired), permutation(b, a, paired)
    assert r.exact and r.p_min - 1e-12 <= r.p <= 1 and r.p_min >= 1/r.n
    assert r.p == pytest.approx(s.p) and r.difference == pytest.approx(-s.difference)

@settings(max_examples=15, deadline=None)
@given(samples(8, 12), samples(8, 12))
def test_drawn_permutations_respect_the_bound_too(a, b):
    r = permutation(a, b, n=199)
    assert not r.exact and r.p >= 2/200 and r.p == permutation(a, b, n=199).p

def test_the_sign_flip_agrees_with_the_earlier_chapters():
    g = np.random.default_rng(0)
    for n in (2, 4, 6):
        a, b = g.normal(size=(2, n))
        assert permutation(a, b, paired=True).p == pytest.approx(paired_flip(a, b))

@settings(max_examples=40, deadline=None)
@given(samples(1, 20), samples(1, 20), st.floats(.1, 10))
def test_ks_is_symmetric_and_blind_to_monotone_maps(a, b, k):
    r, s, t = ks(a, b), ks(b, a), ks(np.arctan(a/k), np.arctan(b/k))
    assert 0 <= r.D <= 1 and 0 <= r.p <= 1
    assert r.D == pytest.approx(s.D) and r.D == pytest.approx(t.D)

# --- many tests -----------------------------------------------------------------------------------

@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12).map(np.array))
def test_holm_lies_between_raw_and_bonferroni(p):
    adjusted = [adjust(p, method) for method in ('bh', 'holm', 'bonferroni')]
    ok = ~np.isnan(p)
    eps = 1e-12
    for a in adjusted: assert (np.isnan(a) == ~ok).all()
    rising = [a[ok] for a in (p, *adjusted)]
    for a, b in zip(rising, rising[1:]): assert (a <= b + eps).all()
    assert (rising[-1] <= 1).all()
    order = np.argsort(p[ok], kind='stable')
    assert (np.diff(adjusted[1][ok][order]) >= -eps).all()

@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0., .01, .05, 1.])), min_size=1,
                max_size=12).map(np.array), st.booleans())
def test_corrections_are_those_of_statsmodels(p, with_gap):
    tested = np.append(p, math.nan) if with_gap else p
    for ours, theirs in (('bonferroni', 'bonferroni'), ('holm', 'holm'), ('bh', 'fdr_bh')):
        expected = multipletests(p, method=theirs)[1]
        np.testing.assert_allclose(adjust(tested, ours)[:len(p)], expected, rtol=1e-12, atol=1e-300)

def test_families_are_adjusted_apart():
    f = pd.DataFrame(dict(a=['x', 'x', 'y'], p=[.01, .04, .03]), index=[7, 5, 9])
    out = adjust_by(f, 'a')
    assert list(out.index) == [7, 5, 9] and out.p_holm[9] == .03
    np.testing.assert_allclose(out.p_holm, [.02, .04, .03])
    assert len(adjust_by(f[:0], 'a')) == 0

# --- equivalence ----------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(samples(2, 15), samples(2, 15), st.floats(.01, 200))
def test_tost_is_the_interval_within_the_margin(a, b, margin):
    assume(min(np.ptp(a), np.ptp(b)) > .01)
    r = tost(a, b, margin)
    worst = max(abs(r.lo), abs(r.hi))
    assume(abs(worst - margin) > 1e-6*(1 + margin))
    assert r.equivalent == (worst < margin) and r.p == pytest.approx(tost(b, a, margin).p, abs=1e-9)
    w = stats.ttest_ind(a, b, equal_var=False)
    se = math.sqrt(a.var(ddof=1)/len(a) + b.var(ddof=1)/len(b))
    assert tost_p(r.difference, se, w.df, margin) == pytest.approx(r.p, abs=1e-6)

# --- models and images ----------------------------------------------------------------------------

@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(2, 8), st.integers(0, 10**6))
def test_mean_squares_against_an_analysis_of_variance(M, I, seed):
    Y = np.random.default_rng(seed).normal(size=(M, I))
    m, i, e = mean_squares(Y)
    total = m*(M - 1) + i*(I - 1) + e*(M - 1)*(I - 1)
    assert total == pytest.approx(((Y - Y.mean())**2).sum())
    f = pd.DataFrame(dict(y=Y.ravel(), m=np.repeat(range(M), I), i=np.tile(range(I), M)))
    t = anova_lm(smf.ols('y ~ C(m) + C(i)', f).fit())
    np.testing.assert_allclose([m, i, e], t.mean_sq.to_numpy(), rtol=1e-6, atol=1e-12)

def test_the_mixed_model_finds_a_simulated_effect_at_its_rate():
    inside, ps = [], []
    for s in range(40):
        r = mixed_effect(simulated(5, 20, difference=1., seed=s, sd_image=0), 'value')
        inside.append(r['lo'] < 1 < r['hi'])
        null = simulated(5, 20, difference=0., seed=100 + s, sd_image=0)
        ps.append(mixed_effect(null, 'value')['p'])
    assert np.mean(inside) >= .85 and np.mean(np.array(ps) < .05) <= .15

def test_the_mixed_model_says_when_it_cannot():
    f = simulated(3, 10, seed=4)
    r, renamed = (mixed_effect(t, 'value') for t in (f, f.assign(model=f.seed + 7)))
    assert r['n_models'] == 6 and renamed['estimate'] == pytest.approx(r['estimate'])
    assert mixed_effect(f.assign(value=.1), 'value')['note'].startswith('constant')
    assert mixed_effect(f.query('seed == 0'), 'value')['note'].startswith('fewer')
    # models without any difference
    same = f.assign(value=(f.dataset == 'natural')*1. + .01*f.image)
    r = mixed_effect(same, 'value')
    assert r['note'] and r['estimate'] == pytest.approx(1.)

@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(2, 12), st.integers(0, 1000), st.floats(-3, 3))
def test_compare_is_antisymmetric_and_free_of_units(M, I, seed, diff):
    f = simulated(M, I, difference=diff, seed=seed)
    a, b = (compare(f, 'value', UNITS, groups=g, n=299) for g in (GROUPS, GROUPS[::-1]))
    np.testing.assert_allclose(a[['difference', 'lo', 'hi', 'd', 'd_lo', 'p']],
                               np.c_[-b.difference, -b.hi, -b.lo, -b.d, -b.d_hi, b.p],
                               rtol=1e-5, atol=1e-6)
    # exact for models, drawn for images
    np.testing.assert_allclose(a.p_permutation[1:], b.p_permutation[1:])
    other = f.assign(value=f.value*1e-3 + 5).sample(frac=1, random_state=0)
    c, of_units = compare(other, 'value', UNITS, n=299), ['difference', 'lo', 'hi']
    np.testing.assert_allclose(c[of_units], a[of_units]*1e-3, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(c[['d', 'p']], a[['d', 'p']], rtol=1e-5, atol=1e-8)
    assert (a.p_permutation >= a.p_min - 1e-12).all() and list(a.unit) == list(UNITS)

def test_only_both_units_keep_the_level():
    n = {u: 0 for u in UNITS}
    for s in range(150):
        f = simulated(4, 25, sd_model=.3, seed=s)
        c = compare(f, 'value', UNITS, n=99).set_index('unit')
        for u in UNITS: n[u] += c.p[u] < .05
    assert n['both'] < .11*150 and n['image'] > .1*150

def test_compare_chooses_the_model_whose_images_are_units():
    f = simulated(3, 20, seed=5)
    rows = [compare(f, 'value', 'image', only=s).difference.iloc[0] for s in range(3)]
    assert np.mean(rows) == pytest.approx(compare(f, 'value').difference.iloc[0])
    assert len(set(rows)) == 3
    # one model on one side
    one = f[f.dataset == 'natural'].assign(dataset=lambda d: np.where(d.seed > 0, 'b', 'a'))
    assert compare(one, 'value', 'both').p.isna().all()

# --- verdicts -------------------------------------------------------------------------------------

@settings(max_examples=200, deadline=None)
@given(st.floats(-5, 5), st.floats(0, 5), st.floats(0, 1), st.floats(0, 1), st.floats(.01, 5),
       st.sampled_from([1, -1]), st.floats(0, 1))
def test_verdicts_are_total_and_symmetric(mid, half, p, p_min, size, sign, p_eq):
    v, w = (verdict(s*mid - half, s*mid + half, p, p_min, s*sign*size, p_eq) for s in (1, -1))
    assert v in WORDS and v == w and v.because == w.because and v.because
    if v == 'holds': assert sign*mid > half and p <= .05 and p_min <= .05 and p_eq > .05
    if p_min > .05: assert v == 'inconclusive'
    d = verdict(mid - half, mid + half, p, p_min, '+' if sign > 0 else '-', p_eq)
    assert d == v or (v == 'contradicted' and d in ('inconclusive', 'holds'))
    if d == 'holds': assert sign*mid > half

@settings(max_examples=100, deadline=None)
@given(st.floats(-5, 5), st.floats(0, 5), st.floats(-5, 5), st.floats(.01, 2))
def test_level_verdicts_are_total(mid, half, m, s):
    v = level_verdict(mid - half, mid + half, m, s)
    overlap = abs(mid - m) <= half + 2*s
    assert v in WORDS
    if abs(abs(mid - m) - half - 2*s) > 1e-9: assert (v == 'contradicted') == (not overlap)

def test_error_rates_of_the_rule():
    count = {d: [] for d in (0., 1.)}
    for d in count:
        for s in range(80):
            rows = compare(simulated(6, 100, .3, 1., .5, d, seed=s), 'value', 'both')
            count[d].append(verdicts(rows, {'value': 1.}).verdict[0])
    def share(d, word): return np.mean(np.array(count[d]) == word)
    assert share(0., 'holds') <= .08 and share(1., 'holds') > .6
    assert share(1., 'contradicted') <= .08

def test_a_table_of_claims_survives_rows_that_cannot_be_tested():
    f = simulated(6, 60, .2, difference=2., seed=1).assign(flat=1.)
    rows = pd.concat([compare(f, v, 'both') for v in ('value', 'flat')])
    out = verdicts(rows, {'value': 2., 'flat': '+'})
    assert list(out.verdict) == ['holds', 'inconclusive']
    assert out.p_min_holm[0] == pytest.approx(2*2/math.comb(12, 6))
    assert len(verdicts(rows[:0], {})) == 0
