"""What the chapters on calibration cannot show: properties of the simulator and of the closed forms
over random worlds, and that the fast forms are the book's own tests."""
import ast, inspect
import math
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from diffcirc.book.asked_trust import claimed_size
from diffcirc.statistics.replication import UNITS, compare, paired_flip
from diffcirc.statistics.tests import adjust, permutation
from diffcirc.statistics.verdicts import verdicts
from diffcirc.study.jobs import Computation
from diffcirc.trust import calibration as C, simulated as S

shares = st.tuples(*[st.floats(.01, 1)]*3).map(lambda v: tuple(x/sum(v) for x in v))
worlds = st.builds(lambda v, shape: S.World('w', *v, shape), shares,
                   st.sampled_from(['normal', 'skewed']))

@settings(max_examples=25, deadline=None)
@given(worlds, st.integers(0, 9), st.floats(-2, 2))
def test_a_study_is_the_sum_of_its_parts(world, seed, d):
    s = S.simulate(world, 3, 4, 5, d, seed)
    rest = s.Y - s.model[..., None] - s.image[:, :, None] - S.on_second(d)
    z = S.simulate(world, 3, 4, 5, 0., seed)
    np.testing.assert_allclose(s.Y[1] - z.Y[1], d, atol=1e-9)
    np.testing.assert_allclose(s.Y[0], z.Y[0])
    only = S.simulate(world._replace(rest=0.), 3, 4, 5, d, seed)
    np.testing.assert_allclose(only.Y, s.Y - rest, atol=1e-9)

@settings(max_examples=15, deadline=None)
@given(worlds, st.integers(0, 99), st.integers(3, 5), st.floats(-1, 1))
def test_the_fast_tests_are_those_of_the_chapters(world, seed, M, d):
    s = S.simulate(world, 2, M, 7, d, seed)
    p = C.pvalues(s.Y)
    for j in range(2):
        one = compare(S.frame_of(s, j), 'value', UNITS, n=999).set_index('unit')
        m = s.Y[:, j].mean(-1)
        permuted, quasi_f = p['exact permutation', 'model'][j], p['quasi-F', 'both'][j]
        np.testing.assert_allclose([p['t test', 'image'][j], p['t test', 'model'][j], quasi_f],
                                   [one.p[u] for u in UNITS], rtol=1e-6, atol=1e-12)
        assert permuted == pytest.approx(permutation(*m).p)
        assert p['sign flips of pairs', 'model'][j] == pytest.approx(paired_flip(*m))
        assert p['t test of pairs', 'model'][j] == pytest.approx(stats.ttest_rel(*m).pvalue)
        assert p['exact permutation and quasi-F', 'both'][j] == max(permuted, quasi_f)

@settings(max_examples=8, deadline=None)
@given(worlds, st.integers(0, 99), st.sampled_from(['+', .65, .1]), st.floats(-2, 2))
def test_the_rule_is_that_of_verdicts(world, seed, claim, d):
    s, names = S.simulate(world, 4, 6, 9, d, seed), 'abcd'
    rows = pd.concat([compare(S.frame_of(s, j), 'value', 'both').assign(value=names[j])
                      for j in range(4)])
    assert C.rule(s.Y, claim) == list(verdicts(rows, dict.fromkeys(names, claim)).verdict)

@settings(max_examples=60, deadline=None)
@given(shares, st.integers(2, 12), st.integers(2, 1000))
def test_the_actual_level_grows_with_the_design_effect(v, M, I):
    w = S.World('w', *v)
    D = {u: C.design_effect(w, u, M, I) for u in ('image', 'model')}
    assert min(D.values()) >= 1 and C.design_effect(w, 'image', M, I + 1) > D['image']
    assert C.design_effect(w, 'model', M, I + 1) < D['model']
    for df in (2*M - 2, 2*I - 2):
        less, more = (C.actual_level(D['image'] + by, df) for by in (0, 1))
        assert .05 - 1e-9 <= less <= more <= 1
    assert C.actual_level(1., 2*M - 2, .01) == pytest.approx(.01)

@pytest.mark.parametrize('model', [0., .05, .5])
def test_simulated_levels_are_those_of_the_closed_form(model):
    w, n = S.World('w', model, .7*(1 - model), .3*(1 - model)), 4000
    s = S.simulate(w, n, 5, 30, seed=7)
    def near(p, q): return abs((p <= .05).mean() - q) < 5*math.sqrt(q*(1 - q)/n)
    by_images = stats.ttest_ind(*s.Y[:, :, 0], axis=-1).pvalue
    assert near(by_images, C.actual_level(C.design_effect(w, 'image', 5, 30), 58))
    assert near(C.student(s.Y), C.actual_level(C.design_effect(w, 'model', 5, 30), 8))
    # the t interval over models, on these images, is exact
    on_these = s.Y[0].mean(-1) - s.image[0].mean(-1)[:, None]
    if model: assert near(stats.ttest_1samp(on_these, 0, axis=-1).pvalue, .05)

def test_bonferroni_errs_as_often_as_the_formula_says():
    g, n = np.random.default_rng(0), 8000
    for m in (2, 4, 10):
        q = 1 - (1 - .05/m)**m
        hit = np.mean([(adjust(p, 'bonferroni') <= .05).any() for p in g.random((n, m))])
        assert abs(hit - q) < 5*math.sqrt(q*(1 - q)/n)

@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([.05, .00625, .5]))
def test_a_promise_is_judged_by_its_interval(n, rate, nominal):
    k = round(n*rate)
    r = S.rates(pd.DataFrame([S.count('x', 'image', np.arange(n) < k, nominal=nominal)])).iloc[0]
    assert 0 <= r.lo <= r.rate + 1e-9 and r.rate <= r.hi + 1e-9
    assert r.judged == S.judged(n, k, nominal)
    if r.judged == 'fails': assert r.lo > 1.5*nominal
    if r.judged.startswith('keeps'): assert r.hi <= 1.5*nominal

@settings(max_examples=15, deadline=None)
@given(shares, st.integers(0, 20))
def test_components_do_not_depend_on_units(v, seed):
    s = S.simulate(S.World('w', *v), 1, 8, 40, seed=seed)
    f = S.frame_of(s, 0).assign(timestep=1)
    a, b = (C.variance_components(g, 'value') for g in (f, f.assign(value=3 - 100*f.value)))
    parts = ['model', 'image', 'rest']
    np.testing.assert_allclose(a[parts], b[parts], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(b.total, 1e4*a.total)
    np.testing.assert_allclose(b['skew'], -a['skew'], atol=1e-9)

def test_the_components_that_went_in_come_out():
    w = S.World('w', .3, .5, .2)
    frames = (S.frame_of(S.simulate(w, 1, 40, 60, seed=k), 0).assign(timestep=k)
              for k in range(12))
    c = pd.concat([C.variance_components(f, 'value') for f in frames])
    np.testing.assert_allclose(c[['model', 'image', 'rest']].mean(), w[1:4], atol=.06)
    # what cannot be estimated makes no world
    assert [x.name for x in C.worlds({'a': c})] == ['models alike', 'a', 'strong']
    assert C.worlds({'b': c.assign(model=np.nan)})[1].name == 'strong'

def test_errors_are_repeatable_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv('DIFFCIRC_HOME', str(tmp_path))
    def simulation(share):
        return Computation(C.calibration_of_unit, dict(share=share, images=10, n=50))
    job = simulation(.5)
    a = job.table()
    made = list(tmp_path.rglob('*.parquet'))
    assert len(made) == 1 and made[0].name.startswith('calibration_of_unit')
    assert job.table().equals(a) and C.calibration_of_unit(.5, 10, 50).equals(a)
    assert not C.calibration_of_unit(.5, 10, 50, seed=1).equals(a)
    assert simulation(.4).key != job.key

def test_claims_have_the_size_that_the_paper_prints(): assert claimed_size() == .65

def test_the_chapters_build_on_one_another():
    "`calibration` knows nothing of `calibration_others`, in whatever file its cells stand."
    tree = ast.parse(inspect.getsource(C))
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    names = {n.module or '' for n in imports} | {a.name for n in imports for a in n.names}
    assert not any(m.endswith('calibration_others') for m in names)

def test_bad_worlds_are_named():
    with pytest.raises(ValueError, match='negative'): S.simulate(S.World('x', 0, 0, 0), 1)
    with pytest.raises(ValueError, match='shape'): S.simulate(S.World('x', 0, 1, 0, 'flat'), 1)
    with pytest.raises(ValueError, match='unit'): C.design_effect(C.NONE, 'both')
