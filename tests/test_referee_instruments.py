"What a referee and a reader found in instruments and pages: one test for each, which the old code fails."
from itertools import combinations
import numpy as np, pytest, torch
from diffcirc.circuits.ablation import EDITS, ablate, targets
from diffcirc.denoiser.diffusion import make_exam, starting_noise, untrained
from diffcirc.denoiser.sites import capturing, editing, find, matched_noise, sites, sweep, zero
from diffcirc.denoiser.training import TrainConfig, batch_at
from diffcirc.denoiser.unet import UNetConfig

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
