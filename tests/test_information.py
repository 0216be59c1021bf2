"""Properties of the information estimators on arbitrary features, independent implementations, the
instrument on damaged networks, and instruments on a network with other names."""
import numpy as np, pytest, torch
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from diffcirc.circuits.estimators import (
    ESTIMATORS, coordinates, features, ife, kernel, mutual_information, renyi, shrinkage)
from diffcirc.circuits.information import information_flow
from diffcirc.circuits.transfer import exchangeable, gram, last_middle, stitch
from diffcirc.denoiser.diffusion import Denoiser, make_exam, untrained
from diffcirc.denoiser.unet import (
    Network, Parts, UNetConfig, attention_layers, blocks, group, skips)

SMALL = UNetConfig(16, 1, 8, (1, 2), temb=16, width=32)
some = st.floats(-100, 100, width=32)
def numbers(n):
    return st.integers(1, 6).flatmap(lambda d: arrays(np.float64, (n, d), elements=some))
pairs = st.integers(6, 30).flatmap(lambda n: st.tuples(numbers(n), numbers(n)))
any_method = pytest.mark.parametrize('method', list(ESTIMATORS))

def usable(*arrays):
    """Features that every estimator accepts: no column so close to constant that its scale is
    rounding, no equidistant images."""
    for X in arrays:
        assume(X.std(0).max() > 1e-3*max(1, np.abs(X).max()))
        A = kernel(X)
        assume(renyi(A, A) > 1e-6)

@any_method
@settings(max_examples=40, deadline=None)
@given(pairs)
def test_bounded_and_symmetric(method, xy):
    usable(*xy)
    X, Y = xy
    try: e = ife(X, Y, method)
    except ValueError as err:
        assert 'equally far' in str(err)
        return
    assert 0 <= e <= 1 and np.isfinite(mutual_information(X, Y, method))
    there, back = mutual_information(X, Y, method), mutual_information(Y, X, method)
    assert abs(e - ife(Y, X, method)) < 1e-6 and abs(there - back) < 1e-6

@any_method
@settings(max_examples=25, deadline=None)
@given(st.integers(8, 60), st.integers(1, 12), st.floats(0, 1), st.integers(0, 10_000))
def test_order_of_images_scale_and_rotation_do_not_matter(method, n, d, noise, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))*2.**-np.arange(d)
    Y = X + noise*rng.normal(size=X.shape)
    π = rng.permutation(n)
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    try: e = ife(X, Y, method)
    except ValueError as err:
        assert 'equally far' in str(err)
        return
    for x, y in ((X[π], Y[π]), (7*X @ Q - 3, Y), (X, coordinates(Y))):
        assert abs(ife(x, y, method) - e) < 1e-5

@any_method
@settings(max_examples=25, deadline=None)
@given(st.integers(12, 80), st.integers(1, 10), st.integers(0, 10_000))
def test_identity_is_one_and_more_than_anything_else(method, n, d, seed):
    X, Y = np.random.default_rng(seed).normal(size=(2, n, d))
    try: own, other = ife(X, X, method), ife(X, Y, method)
    except ValueError as err:
        assert 'equally far' in str(err)
        return
    if method != 'renyi-plain': assert own == pytest.approx(1, abs=1e-9)
    assert own >= other - 1e-9

@any_method
def test_independent_features_share_little_and_noise_costs(method):
    X, Y, N = np.random.default_rng(1).normal(size=(3, 500, 4))*np.arange(1, 5)**-.5
    e = [ife(X, Y, method), *(ife(X, X + σ*N, method) for σ in (2, 1, .3, .05))]
    assert e[0] < .07 and (np.diff(e) > 0).all()

@any_method
@pytest.mark.parametrize('X, says', [
    (np.ones((20, 3)), 'same for all 20'), (np.full((20, 3), np.nan), 'NaN'),
    (np.zeros((1, 3)), 'at least 5'), (np.zeros((4, 3)), 'at least 5'),
    (np.zeros((20, 0)), 'same for all'), (np.float64(3), 'at least 5'),
    (np.r_[np.zeros(19), np.inf], 'infinite')])
def test_what_cannot_be_measured_is_refused(method, X, says):
    for f in (ife, mutual_information):
        with pytest.raises(ValueError, match=says): f(X, X, method)
    with pytest.raises(ValueError, match=says): coordinates(X)

def test_lengths_and_names():
    X = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(ValueError, match='same image'): ife(X, X[:10])
    with pytest.raises(ValueError, match='renyi'): ife(X, X, 'reny')
    with pytest.raises(ValueError, match='renyi'):
        information_flow(untrained(SMALL), exam(), method='reny')

@pytest.mark.parametrize('ρ', [0, .3, .6, .9])
def test_closed_form_for_normal_variables(ρ):
    got = {m: [] for m in ('ksg', 'gaussian', 'gaussian-noise')}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x, e = rng.normal(size=(2, 2000, 1))
        y = ρ*x + np.sqrt(1 - ρ**2)*e
        for m in got: got[m].append(mutual_information(x, y, m))
    for m, tol in (('ksg', .05), ('gaussian', .05), ('gaussian-noise', .1)):
        assert abs(np.mean(got[m]) + .5*np.log2(1 - ρ**2)) < tol, m

def test_neighbours_and_shrinkage_agree_with_scikit_learn():
    fs = pytest.importorskip('sklearn.feature_selection')
    cov = pytest.importorskip('sklearn.covariance')
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, 1))
    y = x + rng.normal(size=x.shape)
    theirs = fs.mutual_info_regression(x, y[:, 0], n_neighbors=3)[0]/np.log(2)
    assert mutual_information(x, y, 'ksg') == pytest.approx(theirs, abs=1e-4)
    for shape in ((30, 5), (30, 100), (1000, 4)):
        Z = rng.normal(size=shape)*np.arange(1, shape[1] + 1)
        Z -= Z.mean(0)
        theirs = cov.ledoit_wolf_shrinkage(Z, assume_centered=True)
        assert shrinkage(Z) == pytest.approx(theirs, abs=1e-9)

def test_chance_term_is_the_mean_over_pairings():
    rng = np.random.default_rng(4)
    X, Y = rng.normal(size=(2, 30, 3))
    A, B = kernel(X), kernel(Y)
    got = [2**renyi(A, B[np.ix_(p, p)]) for p in (rng.permutation(30) for _ in range(4000))]
    assert np.mean(got) == pytest.approx(1, abs=.003)

def test_coordinates_keep_distances_and_take_no_memory():
    H = torch.randn(20, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    Z = coordinates(H)
    distances = (H[0] - H[1:]).flatten(1).norm(dim=1).numpy()
    assert Z.shape == (20, 19)
    assert np.allclose(np.linalg.norm(Z[0] - Z[1:], axis=1), distances, rtol=1e-5)
    assert np.allclose(features(Z).mean(0), 0)

# --- the instrument -------------------------------------------------------------------------------

def exam(n=24, channels=1, t=(100, 900)):
    drawn = torch.rand(n, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    return make_exam(drawn*2 - 1, t)

@pytest.mark.parametrize('channels', [1, 3])
def test_one_row_per_edge_and_kind(channels):
    den = untrained(UNetConfig(16, channels, 8, (1, 2), temb=16, width=32))
    f = information_flow(den, exam(channels=channels), shuffles=2)
    names = list(blocks(den.net))
    first = f[(f.via == 'stream') & (f.method == 'ksg') & (f.kind == 'real') & (f.timestep == 900)]
    first = first.sort_values('place')
    assert list(first.target) == names and list(first.source) == ['x_t', *names[:-1]]
    assert (first.group == [group(den.net, n) for n in names]).all()
    assert len(f) == 2*2*(len(names) + 2)*len(ESTIMATORS)
    assert set(f.via) == {'stream', 'skip1', 'skip2'} and f.ife.between(0, 1).all()
    renyi = f[f.method == 'renyi'].groupby('kind').ife.mean()
    real, floor = renyi['real'], renyi['shuffled']
    assert floor < .15 < real

def test_images_are_a_set():
    den, ex = untrained(SMALL), exam()
    flip = type(ex)(ex.x0.flip(0), ex.ε.flip(0), ex.timesteps)
    a, b = (information_flow(den, e, 'renyi', 0) for e in (ex, flip))
    assert np.allclose(a.ife, b.ife, atol=1e-4) and (a.kind == 'real').all()

def test_a_broken_block_is_named():
    den = untrained(SMALL)
    den.net.get_submodule('mid.attn').proj_out.bias.data.fill_(float('nan'))
    with pytest.raises(ValueError, match=r'Stream after mid\.attn at t = 100.*NaN'):
        information_flow(den, exam())
    with pytest.raises(ValueError, match='at least 5'): information_flow(untrained(SMALL), exam(1))

# --- any network with a plan ----------------------------------------------------------------------

def foreign_name(name):
    "`enc1.res0` → `down0.res0`, `dec2.attn` → `up1.attn0`; skip edges, stem and head keep theirs."
    level, dot, rest = name.partition('.')
    if level[:3] in ('enc', 'dec'):
        level = f"{'down' if level[:3] == 'enc' else 'up'}{int(level[3:]) - 1}"
    return level + dot + rest.replace('attn', 'attn0')

class Renamed(nn.Module):
    """Our network under a wrapped diffusers U-Net's names and without a config: all that an
    instrument may ask of a network."""
    def __init__(self, net):
        super().__init__()
        self.inner, self.plan = net, [(op, foreign_name(name)) for op, name in net.plan]
        self.groups = {foreign_name(n): group(net, n) for n in blocks(net)}
        self.levels = {foreign_name(n): level for n, level in net.levels.items()}
        self.begin, self.advance = net.begin, net.advance
        self.parts = Parts({foreign_name(n): b for n, b in blocks(net).items()}, skips(net),
                           {foreign_name(n): a for n, a in attention_layers(net).items()})
    def forward(self, x, t): return self.inner(x, t)

def renamed(den): return Denoiser(Renamed(den.net))

def test_information_flow_asks_for_no_name_of_ours():
    den = untrained(SMALL)
    assert isinstance(renamed(den).net, Network)
    ours, theirs = (information_flow(d, exam(), shuffles=1) for d in (den, renamed(den)))
    assert list(theirs.target) == [foreign_name(n) for n in ours.target]
    assert (ours.group == theirs.group).all() and np.allclose(ours.ife, theirs.ife)

def test_transfer_asks_for_no_name_of_ours():
    den = untrained(SMALL)
    assert last_middle(renamed(den).net) == 'mid.attn0'
    assert list(exchangeable(renamed(den).net).items()) == [
        (foreign_name(p), steps) for p, steps in exchangeable(den.net).items()]
    ours, theirs = (gram(d, exam()) for d in (den, renamed(den)))
    assert np.allclose(ours[['0', '5']], theirs[['0', '5']])

def test_stitching_asks_for_no_name_of_ours():
    den, donor, fit = untrained(SMALL), untrained(SMALL, 1), exam(12).x0
    ours = stitch(den, exam(6), dict(other=donor), fit)
    theirs = stitch(renamed(den), exam(6), dict(other=renamed(donor)), fit)
    assert list(theirs.part) == [foreign_name(p) for p in ours.part]
    assert np.allclose(ours.impact, theirs.impact, atol=1e-5)
