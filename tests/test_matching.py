"""What the chapter on matching cannot show: properties of the match and of the balance, and the
study's sets for small sources."""
import dataclasses
import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from diffcirc.faces import data, matching
from diffcirc.core import preset
from diffcirc.faces.data import ATTRIBUTES, FaceSet
from diffcirc.book.figures import love_plot
from diffcirc.faces.matching import (
    COMPLEXITY, balance, covariates, image_complexity, match_faces, match_pairs, most_alike, smd,
    study_faces, study_halves)
from diffcirc.faces.people import distinct, nested

def drawings(n, size=16, seed=0, c=3, name='synthetic', ids=None, unknown=False):
    "Smooth random pictures: noise, blurred by a random amount."
    g = np.random.default_rng(seed)
    x = g.normal(size=(n, c, size, size))
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) * size
    x = np.fft.irfft2(np.fft.rfft2(x) / (1 + f)**g.uniform(0, 2, (n, 1, 1, 1)), s=(size, size))
    x = np.clip(x / (3 * x.std((1, 2, 3), keepdims=True)), -1, 1)
    values = np.nan if unknown else (g.random((n, 13)) < .3).astype(float)
    a = pd.DataFrame(values, range(n), ATTRIBUTES)
    ids = np.arange(n) if ids is None else ids
    return FaceSet(name, torch.from_numpy(x.astype('float32')), a, ids)

def numbers(n): return arrays(float, (n, 5), elements=st.floats(-5, 5, width=16))
tables = st.integers(2, 25).flatmap(numbers).map(lambda a: pd.DataFrame(a, columns=COMPLEXITY))

# --- complexity -----------------------------------------------------------------------------------

def test_complexity_orders_pictures():
    x = drawings(1, 32).images[0, :1]
    smooth = torch.nn.functional.avg_pool2d(x[None], 5, 1, 2, count_include_pad=False)
    noise = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    s, n = image_complexity(smooth).iloc[0], image_complexity(noise).iloc[0]
    more = ['contrast', 'entropy', 'edges', 'bits']
    assert (s[more] < n[more]).all() and s['slope'] < n['slope'] - 1

@settings(max_examples=25, deadline=None)
@given(arrays(np.float32, (2, 3, 16, 16), elements=st.floats(-1, 1, width=32)))
def test_complexity_is_finite_and_bounded(x):
    c = image_complexity(torch.from_numpy(x))
    assert np.isfinite(c.to_numpy()).all()
    for name, top in dict(edges=1, entropy=6, contrast=1).items():
        assert c[name].between(0, top).all()

def test_complexity_of_a_face_does_not_depend_on_its_company():
    f = drawings(7)
    whole = image_complexity(f.images)
    for i in range(7):
        alone = image_complexity(f[i].images).iloc[0]
        np.testing.assert_allclose(alone, whole.iloc[i], rtol=1e-9)

def test_grey_and_colour_versions_are_equally_complicated():
    f = drawings(5, 32)
    np.testing.assert_allclose(image_complexity(f.images)[['contrast', 'slope']],
                               image_complexity(f.grey().images)[['contrast', 'slope']], rtol=1e-4)
    with pytest.raises(ValueError, match='n, 1 or 3, h, w'):
        image_complexity(torch.zeros(3, 16, 16))

# --- matching -------------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(tables, tables, st.data())
def test_pairs_are_one_to_one(a, b, d):
    n = d.draw(st.integers(0, min(len(a), len(b))))
    i, j = match_pairs(a, b, n)
    assert len(i) == len(j) == len(set(i)) == len(set(j)) == n
    assert set(i) <= set(range(len(a))) and set(j) <= set(range(len(b))) and (np.diff(i) > 0).all()

def test_pairs_find_a_noisy_copy_and_keep_the_closest():
    g = np.random.default_rng(0)
    a = pd.DataFrame(g.normal(size=(50, 5)), columns=COMPLEXITY)
    order = g.permutation(50)
    b = a.iloc[order] + g.normal(size=a.shape) * 1e-3
    assert (match_faces(b, a) == np.argsort(order)).mean() > .9
    b.iloc[:10] += 50
    i, j = match_pairs(a, b, 30)
    assert (j >= 10).all()

def test_attributes_are_matched_before_complexity():
    f = covariates(drawings(300))
    t = covariates(drawings(60, seed=1)).assign(contrast=99., bits=99.)
    m = f.iloc[match_faces(f, t)]
    assert smd(m, t)[list(ATTRIBUTES)].abs().max() < smd(f, t)[list(ATTRIBUTES)].abs().max()

def test_most_alike_moves_towards_the_others_and_keeps_the_people():
    g = np.random.default_rng(0)
    a, b = (pd.DataFrame(g.normal(m, 1, (400, 5)), columns=COMPLEXITY) for m in (0, 1))
    people = pd.DataFrame((g.random((400, 13)) < .3).astype(float), columns=ATTRIBUTES)
    a = pd.concat([a, people], axis=1)
    a['bits'] -= 2 * a['bald']
    near = most_alike(a, b, 100)
    assert len(set(near)) == 100 and (np.diff(near) > 0).all()
    assert (smd(a.iloc[near], b)[list(COMPLEXITY)].abs() < smd(a, b)[list(COMPLEXITY)].abs()).all()
    assert smd(a.iloc[near], a)['bald'] > -.3
    assert (most_alike(a, a, 400) == np.arange(400)).all()

def test_unknown_attributes_are_left_out():
    a, b = covariates(drawings(20)), covariates(drawings(30, seed=1))
    want = match_pairs(a[list(COMPLEXITY)], b[list(COMPLEXITY)])
    got = match_pairs(a, b.assign(**dict.fromkeys(ATTRIBUTES, np.nan)))
    assert all((x == y).all() for x, y in zip(want, got))

def test_matching_refuses():
    a = covariates(drawings(5))
    with pytest.raises(ValueError, match='A pool of 3 faces cannot match 5'): match_faces(a[:3], a)
    with pytest.raises(ValueError, match='6 pairs asked of sets with 5 and 5'): match_pairs(a, a, 6)
    with pytest.raises(ValueError, match='No covariate'): match_pairs(a, a * np.nan)

# --- balance --------------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(tables, tables)
def test_smd_properties(a, b):
    s = smd(a, b)
    assert (smd(a, a) == 0).all() and (s == -smd(b, a)).all() and not s.isna().any()
    finite = np.isfinite(s) & (s.abs() > 1e-6)
    np.testing.assert_allclose(smd(3 * a + 1, 3 * b + 1)[finite], s[finite], rtol=1e-6)

def test_smd_known_value():
    a, b = (pd.DataFrame({'male': v}) for v in ([0., 1.] * 50, [0., 0., 0., 1.] * 25))
    assert smd(a, b)['male'] == pytest.approx(.25 / np.sqrt((.25 + .1875) / 2))
    t = balance(a, a, a, b)
    assert t.loc[0, 'SMD before'] == pytest.approx(.5345, abs=1e-4) and t.loc[0, 'SMD after'] == 0

def test_love_plot_draws_every_known_covariate():
    a, b = covariates(drawings(30)), covariates(drawings(40, seed=1, unknown=True))
    t = balance(a, b[:30], a, b)
    ax = love_plot(t).axes[0]
    assert [x.get_text() for x in ax.get_yticklabels()][::-1] == list(COMPLEXITY)

# --- the study's faces ----------------------------------------------------------------------------

@pytest.fixture
def source(tmp_path, monkeypatch):
    "Small stand-ins for both sources; returns a function that puts natural faces in force."
    monkeypatch.setenv('DIFFCIRC_HOME', str(tmp_path))
    data._say_once.cache_clear()
    def draw(attrs, size, seed, ids):
        return drawings(len(ids), size, int(ids[0])).images.numpy(), None
    monkeypatch.setattr(matching, 'draw_faces', draw)
    matching._drawn.cache_clear()
    def put(pool): monkeypatch.setattr(matching, 'natural_faces', lambda n, size, seed=0: pool[:n])
    return put

P = dataclasses.replace(preset('smoke'), n_train=20, n_heldout=6, size=16, seeds=3)

@pytest.fixture
def study(source):
    "study_faces of the natural faces that it is given."
    def run(pool, p=P):
        source(pool)
        return study_faces(p)
    return run

def check(found, n_train, n_heldout, c):
    "Sizes, pairs, nobody held out in any training set, no drawing in two of them."
    heldout, samples = found
    assert set(samples) == {(d, s) for d in heldout for s in range(P.seeds)}
    for f in heldout.values(): assert f.images.shape == (n_heldout, c, 16, 16)
    for (d, _), f in samples.items():
        assert f.images.shape == (n_train, c, 16, 16)
        assert not set(f.ids) & set(heldout[d].ids)
    drawn = np.concatenate([f.ids for (d, _), f in samples.items() if d == 'synthetic'])
    assert len(set(drawn)) == P.seeds*n_train

def prints(found): return [f.fingerprint for part in found for f in part.values()]

def test_study_with_people_enough_for_every_seed(study):
    pool = drawings(160, name='celeba', seed=5, ids=np.arange(160) // 2)
    found = study(pool)
    check(found, 20, 6, 3)
    people = [set(found[1]['natural', s].ids) for s in range(3)]
    assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]
    for s in range(3): assert len(distinct(found[1]['natural', s])) == 20
    assert prints(study(pool)) == prints(found)

def test_study_draws_people_with_replacement_where_they_are_few(study):
    heldout, samples = found = study(drawings(60, name='celeba', seed=5, ids=np.arange(60) // 2))
    check(found, 20, 6, 3)
    shared = set(samples['natural', 0].ids) & set(samples['natural', 1].ids)
    assert shared and samples['natural', 0].fingerprint != samples['natural', 1].fingerprint

def test_study_with_few_grey_portraits(study, caplog):
    found = heldout, samples = study(
        drawings(24, c=1, name='orl', seed=5, ids=np.arange(24) // 3, unknown=True))
    check(found, 18, 6, 1)
    assert caplog.text.count('asks for 20 + 6 faces a side') == 1
    for (d, _), f in samples.items():
        assert f.attrs.isna().all(axis=None) if d == 'natural' else f.attrs.notna().all(axis=None)
    # all photographs of a person, as often as the person was drawn; the last one's are cut
    times = np.unique(samples['natural', 0].ids, return_counts=True)[1]
    assert (times % 3 != 0).sum() <= 1 and len(times) < 6

def test_study_of_one_seed_takes_everybody(study):
    _, samples = study(drawings(26, name='celeba', seed=5), dataclasses.replace(P, seeds=1))
    assert len(set(samples['natural', 0].ids)) == 20

def test_study_with_hardly_any_faces(study):
    with pytest.raises(ValueError, match='Only 5 natural faces'): study(drawings(5, name='celeba'))

def test_study_draws_nothing_twice(study, monkeypatch):
    pool = drawings(104, name='celeba', seed=5)
    found = study(pool)
    def never(*a): raise AssertionError('drawn again')
    monkeypatch.setattr(matching, 'draw_faces', never)
    monkeypatch.setattr(matching, '_pairs', never)
    assert prints(study(pool)) == prints(found)

def test_two_halves_of_a_dataset_share_nobody(source):
    source(drawings(60, name='celeba', seed=5, ids=np.arange(60) // 2))
    half, (heldout, samples) = study_halves(P), study_faces(P)
    assert set(half) == {(d, k) for d in heldout for k in (0, 1)}
    assert len({len(f) for f in half.values()}) == 1
    for d in heldout:
        a, b, held = (set(f.ids) for f in (half[d, 0], half[d, 1], heldout[d]))
        assert not a & b and not a & held and not b & held
        smaller = nested(half[d, 0], (4, 16))
        assert set(smaller[4].ids) <= set(smaller[16].ids)
    drawn = {i for s in range(P.seeds) for i in samples['synthetic', s].ids}
    assert not drawn & {*half['synthetic', 0].ids, *half['synthetic', 1].ids}
