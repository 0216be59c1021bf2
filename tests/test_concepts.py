"""Dictionaries and concepts: what the cells of their pages cannot show, against other libraries."""
import json, re
from pathlib import Path
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import jaccard_score, roc_auc_score
from diffcirc.concepts.alignment import (
    along, difference_components, first_order, learned_directions, orthonormal, random_directions)
from diffcirc.concepts.composition import RIDGES, read_maps, region_ious
from diffcirc.concepts.control import levelled, outcome_of, resized
from diffcirc.concepts.dictionaries import (
    THIRDS, companion_claims, component_dictionary, largest, learn_dictionary, stage_of)
from diffcirc.concepts.naming import aucs, overlaps
from diffcirc.concepts.pairs import transferred
from diffcirc.concepts.stability import best_pairs

ROOT = Path(__file__).parent.parent
SEEDS = st.integers(0, 10_000)

def normal(seed, *shape): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 7))
def test_largest_keeps_the_largest(seed, k):
    z = normal(seed, 5, 6)
    for row, kept in zip(z.tolist(), largest(z, k).tolist()):
        top = sorted(row, reverse=True)[:k]
        assert kept == [v if v in top and v > 0 else 0 for v in row]

def test_components_are_those_of_scikit_learn():
    x = normal(0, 300, 6) @ normal(1, 6, 6)
    d = component_dictionary(x, 6)
    want = PCA().fit(x.numpy()).components_
    np.testing.assert_allclose(np.abs((d.directions.numpy()*want).sum(1)), 1, atol=1e-3)

def activations(seed=0, n=4000, d=16, m=32, k=3):
    "Sums of few of m directions in d dimensions."
    codes = largest(normal(seed, n, m), k)
    return codes @ torch.nn.functional.normalize(normal(seed + 1, m, d), dim=1)

def explained(x, made): return 1 - ((x - made).square().sum()/(x - x.mean(0)).square().sum()).item()

def plain_sparse_autoencoder(x, k, m, steps):
    "A TopK autoencoder as one would write it first: no revival, no schedule, no start from data."
    torch.manual_seed(0)
    enc, D = torch.nn.Linear(x.shape[1], m), torch.nn.Parameter(torch.randn(m, x.shape[1]))
    opt = torch.optim.Adam([*enc.parameters(), D], 5e-3)
    def made(x):
        z = enc(x - x.mean(0)).relu()
        kept = z*(z >= z.topk(k, dim=1).values[:, -1:])
        return kept @ (D/D.norm(dim=1, keepdim=True)) + x.mean(0)
    for _ in range(steps):
        rows = torch.randint(len(x), (512,))
        loss = (made(x[rows]) - x[rows]).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad(): return made(x)

def test_a_dictionary_does_as_well_as_one_written_in_a_few_lines():
    x = activations()
    d = learn_dictionary(x, 3, expansion=2, steps=300)
    ours, theirs = explained(x, d.decoded(d.codes(x))), explained(
        x, plain_sparse_autoencoder(x, 3, 32, 300))
    assert ours > theirs - .01 and theirs > .3, (ours, theirs)

class Reading(torch.nn.Module):
    "The reading of one of our dictionaries as an encoder of `overcomplete`."
    def __init__(self, d):
        super().__init__()
        self.d = d
    def forward(self, x):
        z = (x - self.d.mean)/self.d.scale @ self.d.read.T + self.d.bias
        return z, z.relu()

@pytest.mark.parametrize('kind', ['TopK', 'BatchTopK'])
def test_codes_are_those_of_overcomplete(kind):
    sae = pytest.importorskip('overcomplete.sae')
    x = activations()
    d = learn_dictionary(x, 3, kind, expansion=2, steps=60)
    make = dict(TopK=sae.TopKSAE, BatchTopK=sae.BatchTopKSAE)[kind]
    other = make(16, 32, 3, encoder_module=Reading(d),
                 dictionary_params=dict(initializer=d.directions)).eval()
    if kind == 'BatchTopK': other.running_threshold = torch.tensor(d.keep.number)
    with torch.no_grad(): _, codes, made = other(x)
    assert torch.allclose(codes, d.codes(x), atol=1e-5)
    assert torch.allclose(made*d.scale + d.mean, d.decoded(d.codes(x)), atol=1e-4)

@pytest.mark.parametrize('kind', ['TopK', 'BatchTopK'])
def test_learning_does_as_well_as_overcomplete(kind):
    "As many directions, active ones, steps and vectors at a time."
    sae = pytest.importorskip('overcomplete.sae')
    x = activations()
    d = learn_dictionary(x, 3, kind, expansion=2, steps=320)
    torch.manual_seed(0)
    y = (x - d.mean)/d.scale
    make = dict(TopK=lambda: sae.TopKSAE(16, 32, 3), BatchTopK=lambda: sae.BatchTopKSAE(
        16, 32, 3*500))[kind]  # there, so many in the whole batch
    other, batches = make(), torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(y), 500, shuffle=True)
    def misfit(x, made, *_): return (x - made).square().mean()
    sae.train_sae(other, batches, misfit, torch.optim.Adam(other.parameters(), 5e-3),
                  nb_epochs=40, monitoring=0)
    with torch.no_grad(): _, codes, made = other.eval()(y)
    assert (codes != 0).sum(1).float().mean() < 4
    assert explained(x, d.decoded(d.codes(x))) > explained(y, made) - .02

@pytest.mark.parametrize('kind', ['TopK', 'BatchTopK', 'Matryoshka', 'random'])
def test_learning_depends_on_its_seed_alone(kind):
    x = normal(0, 400, 8)
    torch.manual_seed(3)
    a = learn_dictionary(x, 3, kind, steps=12)
    torch.manual_seed(4)
    b, other = (learn_dictionary(x, 3, kind, seed=s, steps=12) for s in (0, 1))
    assert torch.equal(a.codes(x), b.codes(x)) and not torch.equal(a.codes(x), other.codes(x))
    assert torch.allclose(a.directions.norm(dim=1), torch.ones(32), atol=1e-5)
    assert not a.directions.requires_grad

def test_overlap_and_area_are_those_of_scikit_learn():
    a, r = (normal(s, 7, 2, 4, 4) > .4 for s in (0, 1))
    got = overlaps(a, r)
    for i in range(2):
        for j in range(2):
            want = jaccard_score(r[:, j].flatten().numpy(), a[:, i].flatten().numpy())
            assert got[i, j].item() == pytest.approx(want, abs=1e-6)
    x, y = normal(2, 40, 5).round(decimals=1).numpy(), (normal(3, 40) > 0).float().numpy()
    np.testing.assert_allclose(aucs(x, y), [roc_auc_score(y, v) for v in x.T], atol=1e-9)

@settings(max_examples=25, deadline=None)
@given(SEEDS, st.floats(-2, 2))
def test_transferred_shares_of_parts_add_up(seed, c):
    "The share is linear in what is carried over, and 1 for all of it."
    Δ, part, region = normal(seed, 3, 2, 6, 6), normal(seed + 1, 3, 2, 6, 6), torch.zeros(3, 6, 6)
    region[:, 1:4, 2:5] = 1
    one, other, whole = (transferred(v, Δ, region)[0] for v in (c*part, Δ - c*part, Δ))
    np.testing.assert_allclose(one + other, whole, atol=1e-4)
    np.testing.assert_allclose(whole, 1, atol=1e-5)

@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 6))
def test_a_part_of_a_difference_and_the_rest_add_up(seed, k):
    "Along k directions, and along the 6 − k that stand at right angles to them."
    δ, W = normal(seed, 3, 6, 2, 2), orthonormal(normal(seed + 1, 6, 6))
    one, rest = along(δ, W[:, :k]), along(δ, W[:, k:])
    assert torch.allclose(one + rest, δ, atol=1e-4)
    assert (one*rest).sum((1, 2, 3)).abs().max() < 1e-3

def test_components_of_differences_are_singular_vectors():
    δ = normal(0, 5, 6, 3, 3)*torch.arange(1., 7)[:, None, None]
    x = δ.movedim(1, 0).flatten(1)
    want = torch.linalg.svd(x).U[:, :3]
    got = difference_components(δ, 3)
    assert torch.allclose((got*want).sum(0).abs(), torch.ones(3), atol=1e-4)

@pytest.mark.parametrize('seed', range(3))
def test_learning_finds_a_planted_direction_that_differs_little(seed):
    "A linear site: one hidden channel is read for the attribute, one for another; a third is larger."
    R, own = orthonormal(normal(seed, 8, 8)), torch.arange(40) < 20
    z = normal(seed + 9, 40, 8, 3, 3)*torch.tensor([1., 1, 5, *[.3]*5])[:, None, None]
    z[own, 1], z[~own, 0] = 0, 0
    δ = torch.einsum('nchw,dc->ndhw', z, R)
    def change(rows, d): return torch.einsum('nchw,ck->nhw', d, R[:, :2])[:, None]
    Δ = change(None, δ)
    for start in (random_directions(8, 1, seed), first_order(change, δ[own], Δ[own], 1)):
        V = learned_directions(change, δ, Δ, own, start, steps=300, batch=16)
        assert (V.T @ R[:, :1]).abs() > .9 and (V.T @ R[:, 1:2]).abs() < .3
    assert (difference_components(δ[own], 1).T @ R[:, :1]).abs() < .6

def test_levelling_leaves_the_mean_and_what_lies_outside():
    u, mask = normal(0, 5, 2, 8, 8), torch.zeros(4, 4)
    mask[:2] = 1
    got = levelled(mask)(u)
    assert torch.equal(got[:, :, 4:], u[:, :, 4:])
    assert torch.allclose(got.mean(0), u.mean(0), atol=1e-6)
    assert resized(mask, 8).mean() == mask.mean()

@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_matching_does_not_mind_order_or_scale(seed):
    rng = np.random.default_rng(seed)
    A, B = rng.random((2, 5, 60))
    turned = B[rng.permutation(5)]*rng.uniform(.5, 2, (5, 1)) + 1
    np.testing.assert_allclose(np.sort(best_pairs(A, B)), np.sort(best_pairs(A, turned)), atol=1e-9)

def test_readings_of_maps_are_ridge_regressions():
    "With one penalty to choose, and the means at each position taken off."
    features, shares = normal(0, 30, 4, 2, 2), normal(1, 30, 2, 2, 2)
    parts = torch.arange(30).split((15, 5, 10))
    got = read_maps(features, shares, parts)
    X, Y = (v.flatten(2).mT.double() for v in (features, shares))
    X0, Y0 = (v - v[parts[0]].mean(0) for v in (X, Y))
    e = torch.linalg.eigvalsh(X0[parts[0]].flatten(0, 1).T @ X0[parts[0]].flatten(0, 1)).mean()
    fits = [Ridge(λ*e.item(), fit_intercept=False).fit(X0[parts[0]].flatten(0, 1).numpy(),
                                                       Y0[parts[0]].flatten(0, 1).numpy())
            for λ in RIDGES]
    def made(f, i): return f.predict(X0[i].flatten(0, 1).numpy()).reshape(len(i), 4, 2)
    best = min(fits, key=lambda f: np.square(made(f, parts[1]) - Y0[parts[1]].numpy()).sum())
    want = made(best, parts[2]) + Y[parts[0]].mean(0).numpy()
    np.testing.assert_allclose(got.flatten(2).mT.numpy(), want, atol=1e-4)

def test_equal_maps_overlap_wholly_and_nothing_succeeds_where_nothing_changes():
    m = torch.randint(0, 3, (4, 8, 8), generator=torch.Generator().manual_seed(0))
    assert region_ious(m, m, 3) == [1, 1, 1]
    p, x = torch.rand(2, 3, 4, 4), torch.rand(2, 1, 8, 8)
    got = outcome_of(p, p, (x, x), 1, torch.ones(4, 4))
    assert not got.success.any() and (got.distance == 0).all()

def test_thirds_divide_denoising():
    assert [stage_of(t) for t in range(1000)].count('early') == 333
    assert {stage_of(t): s for s, ts in THIRDS.items() for t in ts} == {s: s for s in THIRDS}

def test_every_claim_of_the_companion_has_a_line():
    page = (ROOT/'nbs'/'concepts'/'stability.ipynb').read_text()
    answered = re.findall(r"line\('(concepts-[\w-]+)'", page)
    stated = json.loads((ROOT/'diffcirc'/'companion_claims.json').read_text())
    assert answered == [c['id'] for c in stated] == [*companion_claims()]
