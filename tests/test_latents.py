"""Autoencoders and interventions: what the cells of their pages cannot show, against other
implementations and in closed form."""
import json, re
from pathlib import Path
import numpy as np, pytest, statsmodels.formula.api as smf, pandas as pd, torch
from hypothesis import given, settings, strategies as st
from scipy.stats import entropy
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mutual_info_score
from statsmodels.stats.anova import anova_lm
from torch.distributions import Normal, kl_divergence
from diffcirc.latents.decoders import DECODER_FAMILIES, known_answers, machine_of_planted, planted_codes
from diffcirc.latents.decoders import planted_decoder
from diffcirc.latents.disentanglement import (
    binned, dci, factor_vae_score, information_table, mig, modularity, sap, shared_information)
from diffcirc.latents.factors import WORLDS, manipulated, propagated, sample_of
from diffcirc.latents.mediation import (
    HOWS, Machine, changes, circuit_modularity, mediated, perturbed, specificities, strengths)
from diffcirc.latents.rules import VAE_RULES, lead, vae_claims, variant_share
from diffcirc.statistics.verdicts import surely
from diffcirc.latents.vae import VAEConfig, fit_vae, information, shuffled

ROOT = Path(__file__).parent.parent
SEEDS = st.integers(0, 10_000)

def normal(seed, *shape): return np.random.default_rng(seed).normal(size=shape)

# ------------------------------------------------------------------ scores, by another hand

@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(2, 6), st.integers(2, 5))
def test_shared_information_is_that_of_scikit_learn(seed, a, b):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(a, size=80), rng.integers(b, size=80)
    assert shared_information(x, y) == pytest.approx(mutual_info_score(x, y), abs=1e-9)

@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_dci_is_what_its_formula_says(seed):
    R = np.random.default_rng(seed).random((5, 4))
    D = [1 - entropy(row, base=4) for row in R]
    C = [1 - entropy(column, base=5) for column in R.T]
    want = np.average(D, weights=R.sum(1)), np.average(C, weights=R.sum(0))
    np.testing.assert_allclose(dci(R), want, atol=1e-9)

@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_gaps_and_modularity_by_hand(seed):
    F = np.random.default_rng(seed).random((300, 3))
    z = F @ normal(seed, 3, 4) + .3*normal(seed + 1, 300, 4)
    I = information_table(z, F)
    gaps, scores = [], []
    for j in range(3):
        f = binned(F[:, j])
        of = sorted((mutual_info_score(binned(u), f) for u in z.T), reverse=True)
        gaps.append((of[0] - of[1])/entropy(np.bincount(f)/len(f)))
    assert mig(I, F) == pytest.approx(np.mean(gaps), abs=1e-9)
    for row in I:
        t = np.where(row == row.max(), row.max(), 0)
        scores.append(1 - ((row - t)**2).sum()/(row.max()**2*2))
    assert modularity(I) == pytest.approx(np.mean(scores), abs=1e-9)
    lines = [sorted(LinearRegression().fit(u[:, None], f).score(u[:, None], f) for u in z.T)
             for f in F.T]
    assert sap(z, F) == pytest.approx(np.mean([s[-1] - s[-2] for s in lines]), abs=1e-9)

@pytest.mark.parametrize('noise', [.05, .4])
def test_the_factor_vae_score_by_another_hand(noise):
    "A vote for each batch that shares a factor's bin, learned on some batches and judged on others."
    rng = np.random.default_rng(3)
    F = rng.random((4000, 3))
    z = F @ np.array([[1, 0, 0, .2], [0, 1, 1, 0], [0, .8, 0, 1]]) + noise*rng.normal(size=(4000, 4))
    def vote(j):
        f = (10*F[:, j]).astype(int)
        rows = rng.choice(np.flatnonzero(f == f[rng.integers(4000)]), 32)
        return np.argmin(z[rows].var(0)/z.var(0))
    learned, judged = (pd.DataFrame(dict(j=j, unit=[vote(k) for k in j]))
                       for j in rng.integers(3, size=(2, 1500)))
    answer = learned.groupby('unit').j.agg(lambda v: v.mode()[0])
    by_hand = (judged.unit.map(answer) == judged.j).mean()
    assert factor_vae_score(z, F, 3000) == pytest.approx(by_hand, abs=.05)

def test_scores_do_not_mind_order_scale_or_sign():
    F = np.random.default_rng(0).random((400, 3))
    z = F @ normal(1, 3, 3)
    other = -z[:, ::-1]*[2, 3, 4] + 1
    for score in (lambda z: mig(information_table(z, F), F), lambda z: sap(z, F),
                  lambda z: modularity(information_table(z, F))):
        assert score(z) == pytest.approx(score(other), abs=.02)
    assert abs(factor_vae_score(z, F) - factor_vae_score(other, F)) < .1

# ------------------------------------------------------------------ interventions

@settings(max_examples=50, deadline=None)
@given(*[st.floats(-5, 5)]*4)
def test_effects_add_up_in_both_directions(a, b, c, d):
    e = mediated(a, b, c, d)
    assert e['total'] == pytest.approx(e['direct'] + e['indirect'] + e['interaction'], abs=1e-9)
    assert e['direct_treated'] == pytest.approx(e['direct'] + e['interaction'], abs=1e-9)
    assert e['indirect_treated'] == pytest.approx(e['indirect'] + e['interaction'], abs=1e-9)
    assert e['total'] == pytest.approx(e['direct'] + e['indirect_treated'], abs=1e-9)

@pytest.mark.parametrize('how', HOWS)
def test_a_perturbation_moves_one_unit(how):
    z = torch.tensor(normal(0, 50, 4))
    for i in range(4):
        moved = perturbed(z, i, how)
        assert (moved != z).any(0).tolist() == [j == i for j in range(4)]

@settings(max_examples=12, deadline=None)
@given(st.sampled_from(DECODER_FAMILIES), SEEDS)
def test_planted_decoders_are_answered_in_closed_form(family, seed):
    p = planted_decoder(family, seed)
    z, _ = planted_codes(p, 1500, seed)
    m, known = machine_of_planted(p), known_answers(p)
    torch.testing.assert_close(m.encode(m.decode(z))[:, :4] if family != 'silent' else z,
                               z[:, :4] if family != 'silent' else z)
    raw = changes(m, z, 'raw')
    assert strengths(raw).mean().item() == pytest.approx(known['effect strength, raw'], rel=1e-6)
    assert circuit_modularity(raw) == pytest.approx(known['circuit modularity, raw'], abs=1e-6)

def test_specificity_lies_between_its_ends():
    e = torch.tensor(np.abs(normal(0, 200, 5)))
    s = specificities(e)[~specificities(e).isnan()]
    assert (s >= 1/(np.log(5) + .1) - 1e-9).all() and (s <= 10).all()

def test_strength_of_the_posterior_does_not_mind_how_large_codes_are():
    W, z = torch.tensor(normal(0, 3, 8)), torch.tensor(normal(1, 400, 3))
    def of(c): return strengths(changes(Machine(None, lambda z: z @ W*c, None, (), ()), z/c))
    torch.testing.assert_close(of(1.), of(4.))

# ------------------------------------------------------------------ worlds and networks

@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from(WORLDS['sprites'].factors), st.floats(0, 1))
def test_setting_a_factor_moves_its_effects_alone(seed, factor, value):
    w = WORLDS['caused sprites']
    noise = np.random.default_rng(seed).random((20, 5))
    before, after = propagated(w, noise), propagated(w, noise, {factor: value})
    may = {factor, *(e for e, c in w.causes if c == factor)}
    moved = {f for f, d in zip(w.factors, np.abs(after - before).max(0)) if d > 1e-12}
    assert moved <= may and (after[:, w.factors.index(factor)] == value).all()

def test_only_the_factor_that_is_changed_differs():
    s = sample_of('sprites', 30, 5)
    for j, f in enumerate(s.world.factors):
        assert (manipulated(s, f).factors != s.factors).any(0).tolist() == [i == j for i in range(5)]

@pytest.mark.parametrize('variant', ['VAE', 'β-VAE', 'FactorVAE'])
def test_training_depends_on_its_seed_alone(variant):
    x = sample_of('sprites', 60, 0, 16).images
    def weights(seed, noise):
        torch.manual_seed(noise)
        cfg = VAEConfig('sprites', variant, seed, .5, size=16, steps=4, batch=8)
        return fit_vae(cfg, x, x[:10])[0]['end']['decoder.3.weight']
    assert torch.equal(weights(0, 1), weights(0, 2))
    assert not torch.equal(weights(0, 1), weights(1, 1))

@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_information_is_the_divergence_of_torch(seed):
    g = torch.Generator().manual_seed(seed)
    m, v = torch.randn(2, 4, 3, generator=g)
    torch.testing.assert_close(information(m, v), kl_divergence(Normal(m, (v/2).exp()), Normal(0, 1)),
                               atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shuffled(m, g).sum(0), m.sum(0), atol=1e-5, rtol=1e-4)

# ------------------------------------------------------------------ rules

@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(0, 3))
def test_the_share_of_the_variant_is_that_of_an_analysis_of_variance(seed, apart):
    groups = [normal(seed + i, 10) + apart*i for i in range(3)]
    d = pd.DataFrame(dict(y=np.concatenate(groups), g=np.repeat(list('abc'), 10)))
    t = anova_lm(smf.ols('y ~ C(g)', d).fit())
    error = t.mean_sq['Residual']
    want = (t.sum_sq['C(g)'] - 2*error)/(t.sum_sq.sum() + error)
    assert variant_share(groups) == pytest.approx(want, abs=1e-9)

def test_a_lead_is_welchs():
    a, b = normal(0, 12) + 1, normal(1, 7)*3
    lo, hi = lead(a, b)
    back = lead(b, a)
    np.testing.assert_allclose((lo, hi), (-back[1], -back[0]))
    assert (lo + hi)/2 == pytest.approx(a.mean() - b.mean())
    assert surely(dict(lead=(lo, hi))) in ('holds', 'inconclusive', 'contradicted')

def test_every_claim_has_a_rule_and_a_line():
    stated = json.loads((ROOT/'diffcirc'/'vae_claims.json').read_text())
    assert [*VAE_RULES] == [c['id'] for c in stated] == [*vae_claims()]
    page = (ROOT/'nbs'/'latents'/'variants.ipynb').read_text()
    assert 'for k, v in verdicts.items()' in page and re.search(r'for id in C\b', page)
    for rule in VAE_RULES.values():
        args = rule.null(np.random.default_rng(0), 10)
        assert rule.decides(**args) in ('holds', 'contradicted', 'inconclusive')
