"What a referee and a reader found in instruments and pages: one test for each, which the old code fails."
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
import json, re
import numpy as np, pandas as pd, pytest, torch
from diffcirc.book.circuitmap import circuit_map
from diffcirc.book.findings import trained_on
from diffcirc.book.protocols import protocols
from diffcirc.book.reproduce import between_builds, expected_text
from diffcirc.circuits.ablation import EDITS, ablate, both_named, lowering_text, targets
from diffcirc.circuits.comparison import deciding_p, p_bounded, unit_p
from diffcirc.circuits.gradients import gradient_flow, vanishing
from diffcirc.circuits.interruption import edge_impacts, kept_alone, kept_readings
from diffcirc.circuits.temporal import emergence_order, emergence_times
from diffcirc.core import preset
from diffcirc.denoiser.diffusion import image_errors, make_exam, starting_noise, untrained
from diffcirc.denoiser.sites import capturing, editing, matched_noise, sites, zero
from diffcirc.denoiser.training import TrainConfig, batch_at
from diffcirc.denoiser.unet import UNetConfig, meta_unet

ROOT = Path(__file__).parent.parent

SMALL = UNetConfig(16, 1, 8, (1, 2), 2, 1, 16, 16, (1, 2, 1))

@pytest.fixture(scope='module')
def small(): return untrained(SMALL)

@pytest.fixture(scope='module')
def exam(): return make_exam(torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)),
                             (300,))

# ---------------------------------------------------------------- the control by noise (error 4)

def noise_at(net, names, x, t, first=0):
    "{site: noise (b, values) that the control adds there, norm 1}."
    with capturing(net, names) as intact: net(x, t)
    kept = {k: v.clone() for k, v in intact.items()}
    added = {}
    for n in names:
        with editing(net, {n: EDITS['noise']}, first), capturing(net, [n]) as seen: net(x, t)
        added[n] = (seen[n] - kept[n]).flatten(1)
    return {n: v/v.norm(dim=1, keepdim=True) for n, v in added.items()}

def test_noise_of_sites_and_images_is_independent(small, exam):
    "Equal-shaped sites of one group once got the same noise (correlation .99995)."
    net, (x, t) = small.net, exam.at(300)
    names = [s.name for s in sites(net).values() if s.kind != 'head']
    added = noise_at(net, names, x, t)
    pairs = [(a, b) for a, b in combinations(names, 2) if added[a].shape == added[b].shape]
    assert len(pairs) >= 4
    for a, b in pairs:
        r = (added[a] @ added[b].T).abs()  # images × images
        assert r.max() < 5/added[a].shape[1]**.5, (a, b)
    for v in added.values():
        assert (v @ v.T - torch.eye(len(v))).abs().max() < 5/v.shape[1]**.5

def test_joint_noise_has_the_power_of_its_parts(small, exam):
    "Coherent noise at two sites of a stream adds up to twice the power."
    net, (x, t) = small.net, exam.at(300)
    pair = next(g for g in targets(net, 'group').values() if len(g) > 1)[:2]
    added = noise_at(net, pair, x, t)
    together = sum(added.values()).square().sum(1)
    torch.testing.assert_close(together, torch.full_like(together, 2.), rtol=.15, atol=0)

def test_the_control_does_not_depend_on_the_batch(small, exam):
    "The noise of an image is its own: once, every batch had that of the first."
    two = [ablate(small, exam, ('group',), ('noise',), batch=b).sort_values(['site', 'image'])
           for b in (8, 3)]
    np.testing.assert_allclose(two[0].mse, two[1].mse, rtol=1e-4)

def values(*tensors): return np.concatenate([v.double().flatten().numpy() for v in tensors])

def test_noise_of_exam_and_control_is_none_of_trainings(small):
    "Once 12 % of the exam's values were those of a training stream, and the control used them too."
    shape = (32, 1, 8, 8)
    cfgs = [TrainConfig(SMALL, batch=4, seed=s) for s in range(6)]
    images = torch.zeros(shape)
    trained = values(*(batch_at(images, c, k)[1] for c in cfgs for k in range(120)))
    exams = values(*(make_exam(torch.zeros(100, 1, 8, 8), (300,), s).ε for s in range(4)))
    drawn = values(*(starting_noise(64, (1, 8, 8), first) for first in (0, 10_000, 1_000_000)))
    x = torch.ones(100, 1, 8, 8)
    control = [matched_noise().f(site, 0)(x) - x for site in ('skip1', 'enc1.res0')]
    control = values(*(v/v.std() for v in control))
    # float32 normals collide by chance: their common values are few
    sets = dict(training=trained, exam=exams, drawing=drawn, control=control)
    for (a, u), (b, v) in combinations(sets.items(), 2):
        assert np.isin(v, u).mean() < .02, (a, b)

def test_the_control_is_not_the_target(small):
    "At a site with the shape of an image, the control's noise must not be the noise to predict."
    x0 = torch.ones(6, 1, 16, 16)
    ε = make_exam(x0, (300,)).ε.flatten(1)
    for site in sites(small.net):
        n = (matched_noise().f(site, 0)(x0) - x0).flatten(1)
        r = [np.corrcoef(a, b)[0, 1] for a in n.numpy() for b in ε.numpy()]
        assert np.abs(r).max() < 5/256**.5, site

# ---------------------------------------------------------------- parts that were nominal (error 8)

ALL = protocols(SimpleNamespace(preset=preset('cpu')))

@pytest.mark.parametrize('name', ['attention edits', 'doses'])
def test_edits_are_measured_at_all_timesteps_on_fifty_images(name):
    "Once at t = 300 alone, on 12 and 16 images."
    p = ALL[name]
    assert p.timesteps is None and p.images >= 50 and p.seeds is None

@pytest.mark.parametrize('name', ['selectivity', 'features, untrained', 'layer impacts', 'errors'])
def test_what_is_cheap_is_measured_on_all_images(name):
    assert (ALL[name].images or 100) >= 100

def test_any_two_blocks_can_be_interrupted(small, exam):
    "Once, only the routes of encoder blocks."
    got, blocks = edge_impacts(small, exam), list(small.net.parts.blocks)
    pairs = {(a, b) for a, b in zip(got.sender, got.receiver)}
    assert {(a, b) for a, b in combinations(blocks, 2)} <= pairs
    assert {(a, 'output') for a in blocks} <= pairs

def test_a_cut_edge_is_the_only_thing_cut(small, exam):
    "By hand for a pair within the decoder: the reader's update without the sender, all else clean."
    x, t = exam.at(300)
    a, b = [n for n in small.net.parts.blocks if n.startswith('dec')][:2]
    between = list(small.net.parts.blocks)
    assert between.index(b) == between.index(a) + 1  # nothing between them to be held
    with editing(small.net, {a: zero}), capturing(small.net, [b]) as seen: small.net(x, t)
    update = seen[b].clone()
    with editing(small.net, {b: lambda u: update}): want = image_errors(small(x, t), exam.ε)
    got = edge_impacts(small, exam).query('sender == @a and receiver == @b')
    np.testing.assert_allclose(got.mse, want, rtol=1e-4)

def test_a_part_that_the_gradient_does_not_reach_is_found(exam):
    "Gradient flow was a heat map; now a stream that the output ignores counts as vanished."
    def flow(seed, deaf):
        net = untrained(SMALL, seed)
        if deaf: net.net.head[-1].weight.mul_(0)
        d = gradient_flow(net, exam).assign(dataset='a', seed=seed)
        return d
    assert not len(vanishing(pd.concat([flow(s, False) for s in range(3)])))
    for s in range(2): assert (flow(s, True).reach == 0).all()
    alive = pd.concat([flow(s, False) for s in range(3)])
    first = alive.layer == alive.layer.iloc[0]
    cut_off = alive.assign(reach=alive.reach.where(~first, 1e-6*alive.reach))
    assert set(vanishing(cut_off).layer) == {alive.layer.iloc[0]}

def test_emergence_has_a_time_only_where_something_rises():
    "The largest value of a flat curve is anywhere: once, that was the time of emergence."
    rng, t = np.random.default_rng(0), np.arange(25, 1000, 50)
    def level(k, seed, v): return pd.DataFrame(dict(dataset='x', seed=seed, level=k, timestep=t,
                                                    feature=v/v.max()))
    flat = pd.concat([level(k, s, 1 + .001*rng.random(20)) for k in ('low', 'high')
                      for s in range(6)])
    assert emergence_times(flat).onset.isna().all() and not emergence_order(emergence_times(flat))
    step = pd.concat([level(k, s, 1. + (t < at) + .01*rng.random(20)) for s in range(6)
                      for k, at in (('low', 700), ('high', 300))])
    gap = emergence_order(emergence_times(step))['x']
    assert gap.lo < 400 < gap.hi and gap.hi - gap.lo < 20

def test_keeping_all_is_the_network_and_keeping_none_is_its_means(small, exam):
    "What is kept alone is measured on images, noise and faces that it was not chosen on."
    got = kept_alone(small, exam, exam.x0.flip(0), share=1.)
    by = got.set_index(['perturbation', 'kept', 'image']).mse
    for kept in ('circuit', 'random 0'):
        np.testing.assert_allclose(by.xs(kept, level='kept'), by.xs('whole', level='kept'), rtol=1e-5)
    assert (by.xs('nothing', level='kept') != by.xs('whole', level='kept')).all()
    assert set(got.image) == {1, 3, 5, 7}  # chosen on the even ones
    assert {'new noise', 'other faces', 'mirrored', 'half contrast'} <= set(got.perturbation)
    own = kept_readings(got.assign(dataset='a', seed=0))
    np.testing.assert_allclose(own[['circuit', 'random']], 0, atol=1e-5)

# ---------------------------------------------------------------- pages (error 10)

def impacts_on_map(at):
    cfg = UNetConfig(32, 1, 16, (1, 2, 2), 1, 0, 16, 32)
    names = list(sites(meta_unet(cfg)))
    mean = pd.Series(.2, names)
    mean['skip1'], mean['skip2'] = at, 0.
    o = pd.DataFrame(dict(timestep=300, site=names, mean=mean.to_numpy(), lo=-.4, hi=.4))
    body = circuit_map(cfg, {'natural faces': o}, {'natural faces': np.zeros((1, 8, 8, 3), 'u1')}).body
    data = json.loads(re.search(r'class="dcm-data">(.*?)</script>', body, re.S)[1])
    one = data['sets'][0]
    return {k: (one['fill'][0][names.index(k)], one['at'][0][names.index(k)])
            for k in ('skip1', 'skip2')}

def test_the_map_shows_that_removal_lowers_the_error():
    "Minus 31 per cent once had the colour and the place of zero."
    found = impacts_on_map(-.31)
    assert found['skip1'][0] != found['skip2'][0] and found['skip1'][1] < found['skip2'][1]
    assert impacts_on_map(.31)['skip1'][0] not in (found['skip1'][0], found['skip2'][0])

def test_the_text_names_what_lowers_the_error():
    o = pd.DataFrame(dict(dataset='natural', site=['skip1', 'mid'], timestep=975, mean=[-.31, .1],
                          lo=[-.35, .05], hi=[-.27, .2]))
    assert 'skip1 at t = 975' in lowering_text(o) and '−31.0' in lowering_text(o)

@pytest.mark.parametrize('unit', ['image', 'model', 'both'])
def test_the_figure_and_the_table_of_p_agree(unit):
    "Fig. 22.1a showed the smaller p of two, Table 22.2 the larger."
    r = pd.Series(dict(unit=unit, p=2e-6, p_permutation=.002, p_holm=.01))
    assert unit_p(r).split(' (')[0] == p_bounded(deciding_p(r))
    panel = (ROOT/'nbs/circuits/comparison.ipynb').read_text()
    assert 'r.apply(deciding_p, axis=1)' in panel and 'p.clip(' not in panel

def test_the_network_drawn_is_the_one_trained():
    cells = json.loads((ROOT/'nbs/book/diagram.ipynb').read_text())['cells']
    text = '\n'.join(''.join(c['source']) for c in cells)
    assert re.search(r'^net = meta_unet\(S\.runs\[.*\]\.net_config\)', text, re.M)

def test_the_number_of_training_images_is_that_used():
    st = SimpleNamespace(preset=preset('cpu'), natural='orl',
                         samples={(d, 0): range(300) for d in ('synthetic', 'natural')})
    assert '**300**' in trained_on(st) and 'would take 2,000' in trained_on(st)
    assert 'trained_on(study())' in (ROOT/'nbs/core.ipynb').read_text()
    assert 'Two thousand images' not in (ROOT/'nbs/study/samples.ipynb').read_text()

def test_what_reproduce_expects_fits_what_it_shows():
    "Builds that differ by .02 SD are no reason to expect 1.2."
    again = pd.DataFrame(dict(machine='m', in_sd=[.01, -.02]))
    said = expected_text(again, 'm', 6)
    assert 'within 0.02 SD so far' in said and 'worst case' in said
    assert '0.02 SD at most' in between_builds(again.in_sd, 1, 6)

def test_one_name_is_said_once():
    assert both_named('skip1', 'skip1').count('skip1') == 1
