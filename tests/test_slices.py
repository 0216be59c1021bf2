"""Slices of brains: what the cells of their pages cannot show, properties of measures, splits and
uncertainty, and whether what is known of drawings comes back."""
import io, json, re
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from scipy.stats import norm
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from diffcirc.latents.anomalies import (
    MISS, REFUSALS, SAVED, area_verdict, gained_verdict, main_kind, measures, mri_csv, mri_table,
    slice_claims)
from diffcirc.latents.bayesian import (
    SliceNetConfig, fit_slices, new_net, read_slices_with, slice_loss, split_uncertainty)
from diffcirc.latents.phantom import phantom
from diffcirc.latents.rivals import NETWORKS, OTHERS, equalized, joined_parts, units_of
from diffcirc.latents.scores import (
    CENTRAL, best_dice, dice_at, errors_kept, patient_draws, pixel_counts, pr_area, refusal_gain,
    roc_area, tallied)
from diffcirc.latents.slices import head_of, scaled_by_patient, split_patients

ROOT = Path(__file__).parent.parent
SEEDS = st.integers(0, 10_000)

def rows_of(seed, n=80, patients=6):
    "Random counts of single cases with ties, both classes present."
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, rng.integers(0, 2, n - 2)]
    return pd.DataFrame(dict(patient=rng.integers(0, patients, n), positives=y, negatives=1 - y,
                             score=rng.integers(0, 9, n)/4))

@settings(max_examples=40, deadline=None)
@given(SEEDS, st.floats(0, 2.2))
def test_measures_are_those_of_scikit_learn(seed, threshold):
    r = rows_of(seed)
    c = tallied(r)
    assert roc_area(c)[0] == pytest.approx(roc_auc_score(r.positives, r.score))
    assert pr_area(c)[0] == pytest.approx(average_precision_score(r.positives, r.score))
    assert dice_at(c, threshold)[0] == pytest.approx(f1_score(r.positives, r.score >= threshold))
    assert dice_at(c, threshold)[0] <= best_dice(c)[0] + 1e-12

@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(.1, 9), st.floats(-5, 5))
def test_areas_do_not_mind_a_rising_scale_and_turn_with_the_sign(seed, a, b):
    r = rows_of(seed)
    moved = r.assign(score=np.exp(a*r.score) + b)
    for f in (roc_area, pr_area, best_dice):
        assert f(tallied(moved))[0] == pytest.approx(f(tallied(r))[0])
    turned = tallied(r.assign(score=-r.score))
    assert roc_area(turned)[0] == pytest.approx(1 - roc_area(tallied(r))[0])

@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_a_patient_drawn_twice_counts_like_two(seed):
    r = rows_of(seed)
    w = patient_draws(r.patient, 1, seed)[1:]
    again = pd.concat([r[r.patient == p] for p, k in zip(np.unique(r.patient), w[0])
                       for _ in range(int(k))])
    if again.positives.nunique() < 2: return
    for f in (roc_area, pr_area, best_dice):
        assert f(tallied(r, w))[0] == pytest.approx(f(tallied(again))[0])

@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_steps_of_the_score_lose_little(seed):
    g = torch.Generator().manual_seed(seed)
    sick = torch.rand(12, 10, 10, generator=g) < .08
    maps = torch.randn(12, 10, 10, generator=g) + 1.5*sick
    c = tallied(pixel_counts(maps, sick, torch.ones_like(sick), np.repeat(range(4), 3), 1.))
    y, s = sick.flatten().numpy(), maps.flatten().numpy()
    assert roc_area(c)[0] == pytest.approx(roc_auc_score(y, s), abs=.01)
    assert pr_area(c)[0] == pytest.approx(average_precision_score(y, s), abs=.03)
    assert dice_at(c, 1.)[0] == pytest.approx(f1_score(y, s >= 1), abs=1e-9)

@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(6, 40))
def test_no_patient_is_on_two_sides(seed, n):
    rng = np.random.default_rng(seed)
    about = pd.DataFrame(dict(patient=np.repeat(range(n), 3), anomalous=rng.random(3*n) < .4))
    parts = split_patients(about, seed)
    who = [set(about.patient[r]) for r in parts.values()]
    assert not (who[0] & who[1] or who[0] & who[2] or who[1] & who[2])
    assert not about.anomalous[np.r_[parts['train'], parts['validation']]].any()
    asked = about.patient.isin(who[2])
    assert set(parts['test']) == set(np.flatnonzero(asked))

@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 6))
def test_both_parts_are_the_variance_of_the_mixture(seed, passes):
    g = torch.Generator().manual_seed(seed)
    m, v = torch.randn(passes, 2, 3, 3, generator=g), torch.rand(passes, 2, 3, 3, generator=g)
    r = split_uncertainty(m, v)
    total = (v + m.square()).mean(0) - m.mean(0).square()
    torch.testing.assert_close(r.epistemic + r.aleatoric, total, atol=1e-5, rtol=1e-4)
    assert (r.epistemic >= 0).all() and (r.aleatoric >= 0).all()

def test_the_split_is_that_of_a_bayesian_regression():
    "Samples of its posterior give its variance of the mean, and its noise, at every point."
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    fit = BayesianRidge(fit_intercept=False).fit(X, X @ [1, -1, .5, 0] + .4*rng.normal(size=60))
    new = rng.normal(size=(9, 4))
    weights = rng.multivariate_normal(fit.coef_, fit.sigma_, 6000)
    means = torch.from_numpy(weights @ new.T)[:, :, None, None]
    r = split_uncertainty(means, torch.full_like(means, 1/fit.alpha_))
    _, sd = fit.predict(new, return_std=True)
    got = (r.epistemic + r.aleatoric).flatten().numpy()
    np.testing.assert_allclose(got, sd**2, rtol=.02)
    np.testing.assert_allclose(r.epistemic.flatten(), np.sum(new @ fit.sigma_*new, 1), rtol=.15)

def test_noise_of_known_size_is_learned_as_aleatoric():
    "Of one picture under noise that is larger at the sides, the variance is that of each place."
    sd = torch.full((16, 16), .1)
    sd[:, [0, 1, 2, 3, 12, 13, 14, 15]] = .4  # symmetric: slices are mirrored as it learns
    x = sd*torch.randn(400, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    net = fit_slices(x[:300], SliceNetConfig(16, 8, 4, 0, 0., steps=150, batch=32, lr=1e-2))
    ale = read_slices_with([net], x[300:], 4).aleatoric.mean((0, 1)).sqrt()
    assert ale[[0, 1, 14, 15]].mean().item() == pytest.approx(.4, rel=.25)
    assert ale[[6, 7, 8, 9]].mean().item() == pytest.approx(.1, rel=.35)

def test_the_loss_is_the_negative_evidence_bound():
    net = new_net(SliceNetConfig(16, 8, 4, 2, 0.))
    x = torch.rand(3, 1, 16, 16)*2 - 1
    torch.manual_seed(0)
    got = slice_loss(net, x)
    torch.manual_seed(0)
    μ, logv = net(x).chunk(2, 1)
    bound = -torch.distributions.Normal(μ, (.5*logv).exp()).log_prob(x).sum((1, 2, 3))
    want = (bound + net.mid.code.kl)/256 - .5*np.log(2*np.pi)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)

def test_networks_for_comparison_have_as_many_weights():
    "The convolutions in place of attention are no smaller."
    def size(**change):
        return sum(p.numel() for p in new_net(SliceNetConfig(**change)).parameters())
    with_attention, without = size(), size(heads=0)
    assert abs(with_attention - without) < .05*with_attention

def test_drawings_depend_on_their_seed_alone_and_twins_differ_in_the_lesion():
    a, b = phantom(7, 5, 16, 3), phantom.__wrapped__(7, 5, 16, 3)
    assert a.fingerprint == b.fingerprint
    gap = (a.images - a.healthy).abs()[:, 0]
    far = ~torch.nn.functional.max_pool2d(1.*a.masks[:, None], 5, 1, 2)[:, 0].bool()
    assert gap[far].mean() < .1*gap[a.masks].mean()
    assert head_of(a.images)[a.masks].float().mean() > .95

@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_equalization_and_scaling_do_not_mind_the_scanner(seed):
    g = torch.Generator().manual_seed(seed)
    v, who = .1 + .5*torch.rand(4, 6, 6, generator=g), list('aabb')
    torch.testing.assert_close(scaled_by_patient(v, who), scaled_by_patient(v*1.3, who),
                               atol=1e-5, rtol=1e-4)
    inside = torch.ones(4, 6, 6, dtype=bool)
    x = v[:, None]*2 - 1
    assert torch.equal(equalized(x, inside, who), equalized(x**3, inside, who))

def test_parts_add_up_to_the_joined_score():
    parts = {k: torch.rand(2, 4, 4) + .1 for k in ('error', 'epistemic', 'aleatoric')}
    j = joined_parts(parts, units_of(parts, torch.ones(2, 4, 4, dtype=bool)))
    torch.testing.assert_close(j['all'], j['error'] + j['epistemic'] + j['aleatoric'])
    torch.testing.assert_close(j['without aleatoric'], j['error'] + j['epistemic'])

@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_refusing_in_the_right_order_saves_most(seed):
    rng = np.random.default_rng(seed)
    wrong = (rng.random(30) < .3)*1.
    best, worst = refusal_gain(wrong, wrong), refusal_gain(wrong, -wrong)
    assert worst <= refusal_gain(wrong, rng.random(30)) <= best

def test_every_claim_has_a_line_and_a_rule():
    page = (ROOT/'nbs'/'latents'/'anomalies.ipynb').read_text()
    stated = json.loads((ROOT/'diffcirc'/'slice_claims.json').read_text())
    assert [c['id'] for c in stated] == [*slice_claims()]
    assert {c['by'] for c in stated} == {'area', 'gain'}
    assert re.search(r'for id in claims', page)
    assert area_verdict('phantom', .8, .9, .83, (.1, .2)) == 'not comparable'
    assert gained_verdict(.1, .2) == 'holds'

def test_better_scores_have_larger_areas_in_the_table():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 200)
    def of(detector, lift):
        return pd.DataFrame(dict(source='toy', detector=detector, kind='error', unit='slice',
                                 seed=0, threshold=1., patient=np.repeat(range(20), 10),
                                 score=lift*y + rng.normal(size=200), positives=y,
                                 negatives=1 - y))
    t = mri_table(measures(pd.concat([of('good', 3), of('blind', 0)]), 50)).set_index('model')
    roc = t[t.metric == 'ROC AUC']
    assert roc.lo['good'] > roc.hi['blind'] and roc.lo['blind'] < .5 < roc.hi['blind']

def test_every_detector_has_a_score_that_stands_for_it():
    assert {main_kind(d) for d in (*NETWORKS, *OTHERS)} == {'all', 'error'}

# ------------------------------------------------------------------ rows to take away

def answered(seed, calibrated=True, patients=12, slices=8):
    "Rows like those of `detector_scores` of a network whose uncertainty knows where it errs."
    rng = np.random.default_rng(seed)
    n, level = patients*slices, norm.ppf(.5 + np.array(CENTRAL)/2)
    who, y = np.repeat(range(patients), slices), rng.integers(0, 2, n)
    unsure = rng.random(n)
    score = np.where((unsure > .7) & (rng.random(n) < .8), 1 - y, y) + .1*rng.random(n)
    rows = [pd.DataFrame(dict(unit='slice', kind=k, patient=who, row=range(n), score=s,
                              threshold=.5, positives=y, negatives=1 - y))
            for k, s in (('all', score), ('epistemic', unsure), ('aleatoric', rng.random(n)))]
    errors = rng.normal(size=(patients, 4000))*(1 if calibrated else 3)
    rows += [pd.DataFrame(dict(unit='coverage', kind='both', patient=p, row=-1, score=CENTRAL,
                               positives=[(abs(e) <= l).sum() for l in level]))
             for p, e in enumerate(errors)]
    out = pd.concat(rows).assign(source='toy', detector='d', seed=seed)
    return out.assign(negatives=out.negatives.fillna(4000 - out.positives))

def rows_of_csv(*found):
    return pd.read_csv(io.StringIO(mri_csv(pd.concat(found)))).set_index(['score', 'metric'])

def test_calibration_stands_in_the_table_with_its_interval():
    good, bad = (rows_of_csv(*(answered(s, c) for s in (0, 1))) for c in (True, False))
    for level in CENTRAL:
        r = good.loc['both variances', f'within {100*level:.0f} %']
        assert r.lo <= r.value <= r.hi and r.value == pytest.approx(level, abs=.01)
        assert r.unit == 'pixel' and r.prevalence == 0
        third = norm.cdf(norm.ppf(.5 + level/2)/3)*2 - 1
        assert bad.loc['both variances', f'within {100*level:.0f} %'].value == pytest.approx(
            third, abs=.01)
    assert good.loc['both variances', MISS].hi < .02 < .3 < bad.loc['both variances', MISS].lo

def test_refusing_stands_in_the_table_with_its_interval():
    found = [answered(s) for s in range(5)]  # of two networks nothing is sure
    d = rows_of_csv(*found)
    by = {how: d.loc[f'refused by {how}'] for how in REFUSALS}
    for r in by.values():
        assert (r.lo <= r.value).all() and (r.value <= r.hi).all() and set(r.unit) == {'slice'}
        whole = np.mean([((f.score >= .5) != f.positives)[f.kind == 'all'].mean() for f in found])
        assert r.value['errors, 100 % kept'] == pytest.approx(whole)
    assert by['epistemic'].value['errors, 50 % kept'] == 0
    assert by['epistemic'].lo[SAVED] > 0
    assert abs(by['aleatoric'].value[SAVED]) < by['epistemic'].value[SAVED]

@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_errors_kept_are_those_of_slices_written_out(seed):
    "Whole weights count like copies of a slice."
    rng = np.random.default_rng(seed)
    wrong, u, w = rng.integers(0, 2, 20), rng.permutation(20), rng.integers(1, 4, 20)
    got = errors_kept(wrong, u, (1.,), w)
    assert got == pytest.approx(errors_kept(np.repeat(wrong, w), np.repeat(u, w), (1.,)))
    half = errors_kept(wrong, u, (.5,))
    assert half == pytest.approx(wrong[np.argsort(u)][:10].mean())
