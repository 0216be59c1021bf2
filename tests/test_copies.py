"Sweeps side by side give what plain hooks give, on random networks, sites, edits and memories."
import numpy as np, pytest, torch
from hypothesis import Phase, given, settings, strategies as st
from diffcirc.denoiser.copies import bytes_per_image
from diffcirc.denoiser.diffusion import Denoiser, make_exam, untrained
from diffcirc.denoiser.sites import (
    matched_noise, mean, permuted, placed, resample, scale, sites, sweep, swept, temperature,
    uniform, zero)
from diffcirc.denoiser.unet import UNetConfig

ONCE = Phase.explicit, Phase.generate  # shrinking networks takes minutes
EDITS = dict(zero=zero, mean=mean, scale=scale(.3), resample=resample(1), noise=matched_noise(2))
MAPS = dict(uniform=uniform, permuted=permuted(1), flatter=temperature(2.))

@st.composite
def networks(draw):
    own = draw(st.booleans())
    return untrained(UNetConfig(
        16, draw(st.sampled_from([1, 3])), 8, draw(st.sampled_from([(1, 2), (1, 1, 2)])),
        n_res=draw(st.integers(1, 2)), mid_res=draw(st.integers(0, 1)), temb=16, width=16,
        heads=(1, 2, 1), own_bottom=own, skip_levels=draw(st.sampled_from([None, 1])),
        adaptive=draw(st.booleans())), draw(st.integers(0, 9)))

def agree(den, exam, names, edit, memory, batch=100):
    "Both paths' tables, the same but for rounding."
    with torch.no_grad():
        got, want = (sweep(den, exam, names, edit, batch=batch, memory=m) for m in (memory, 0))
    assert got.drop(columns=['mse', 'clean', 'impact']).equals(
        want.drop(columns=['mse', 'clean', 'impact']))
    for c in ('mse', 'clean'): np.testing.assert_allclose(got[c], want[c], rtol=2e-6, atol=2e-7)

@settings(max_examples=25, deadline=None, phases=ONCE)
@given(den=networks(), data=st.data(), edit=st.sampled_from(sorted(EDITS)))
def test_any_sets_of_sites(den, data, edit):
    known = st.sampled_from(list(sites(den.net)))
    sets = data.draw(st.lists(st.lists(known, min_size=1, max_size=4, unique=True).map(tuple),
                              min_size=1, max_size=6, unique=True))
    x = torch.rand(data.draw(st.integers(2, 5)), den.net.cfg.channels, 16, 16)*2 - 1
    exam = make_exam(x, data.draw(st.sampled_from([(100,), (50, 700)])))
    memory = data.draw(st.sampled_from([1, 2**20, 2**22, 2**30]))
    agree(den, exam, sets, EDITS[edit], batch=data.draw(st.sampled_from([3, 100])), memory=memory)

@settings(max_examples=10, deadline=None, phases=ONCE)
@given(den=networks(), data=st.data())
def test_edits_of_maps(den, data):
    layers = list(den.net.parts.layers)
    names = data.draw(st.lists(st.sampled_from([*layers, *(f'{n}.h0' for n in layers)]), min_size=1,
                               max_size=4, unique=True))
    exam = make_exam(torch.rand(3, den.net.cfg.channels, 16, 16)*2 - 1, (100, 700))
    agree(den, exam, [*names, (layers[0], f'{layers[-1]}.h0')],
          MAPS if data.draw(st.booleans()) else uniform, memory=data.draw(st.sampled_from([1, 2**30])))

@pytest.fixture(scope='module')
def den(): return untrained(UNetConfig(16, 1, 8, (1, 2), temb=16, width=16, heads=(1, 2, 1)))

@pytest.fixture(scope='module')
def exam(): return make_exam(torch.rand(6, 1, 16, 16)*2 - 1, (100, 300, 700))

def test_several_timesteps_share_a_pass(den, exam):
    "Where there is room, the network's steps run once for all timesteps, and once per edit where not."
    def runs(memory):
        n, net = [], den.net
        handle = net.get_submodule('stem').register_forward_hook(lambda m, i, o: n.append(len(o)))
        sweep(den, exam, ['enc1.res0', 'mid.attn', 'skip1'], memory=memory)
        handle.remove()
        return n[1:]  # the first measures one image
    assert runs(2**30) == [18] and runs(1) == [6, 6, 6]

def test_no_more_copies_than_fit(den, exam):
    "The batch of any step stays within the memory, beyond the clean copy and one other."
    per_image, most = bytes_per_image(den.net, *exam.at(100)), []
    handle = den.net.get_submodule('dec2.res0').register_forward_hook(
        lambda m, i, o: most.append(len(o)))
    sweep(den, exam, list(sites(den.net)), memory=30*per_image)
    handle.remove()
    assert 12 <= max(most) <= 30

class Bare(torch.nn.Module):
    "A network that tells its parts and not the order of its steps."
    def __init__(self, net):
        super().__init__()
        self.net, self.parts, self.groups = net, net.parts, net.groups
    def forward(self, x, t): return self.net(x, t)

def test_a_network_of_unknown_order_is_swept_by_plain_hooks(den, exam):
    names = ['enc1.res0', 'mid.attn.h1', 'skip1']
    got, want = sweep(Denoiser(Bare(den.net)), exam, names), sweep(den, exam, names)
    np.testing.assert_allclose(got.mse, want.mse, rtol=2e-6)

def test_an_edit_sees_the_images_of_one_timestep(den, exam):
    sizes = []
    def at(site, first):
        def edit(x):
            sizes.append((first, len(x)))
            return x
        return edit
    for *_, found, _, _ in swept(den, exam, ['mid.attn'], placed(at), batch=3): list(found)
    assert sizes == [(0, 3), (3, 3)]*3
