"Our network and diffusers' UNet2DModel behind one protocol, the latter on small models made here."
import pytest, torch
diffusers = pytest.importorskip('diffusers')
from hypothesis import given, settings, strategies as st
from diffcirc.denoiser.diffusion import Denoiser, add_noise, make_exam, untrained
from diffcirc.denoiser.readers import prediction_errors
from diffcirc.denoiser.diffusers import ForeignUNet
from diffcirc.denoiser.sites import (
    attention_maps, capturing, editing, find, mean, sites, stream, sweep, uniform, zero)
from diffcirc.denoiser.unet import (
    Network, UNetConfig, attention_layers, attention_map, blocks, group, head_parts, heads,
    skips)

SMALL = dict(sample_size=16, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=8,
             block_out_channels=(16, 32), attention_head_dim=8,
             down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
             up_block_types=('AttnUpBlock2D', 'UpBlock2D'))

def faces(n, g):
    slopes = torch.randn(n, generator=g)
    ramps = [(torch.linspace(-1, 1, 16)*slope).expand(16, 16) for slope in slopes]
    return torch.stack(ramps).clamp(-1, 1)[:, None]

@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    m = diffusers.UNet2DModel(**SMALL)
    opt = torch.optim.Adam(m.parameters(), 2e-3)
    with torch.enable_grad():
        for _ in range(60):
            x0 = faces(16, g)
            ε = torch.randn(x0.shape, generator=g)
            t = torch.randint(0, 1000, (16,), generator=g)
            loss = (m(add_noise(x0, ε, t), t).sample - ε).square().mean()
            loss.backward()
            opt.step()
            opt.zero_grad()
    assert loss < .6
    return m.eval().requires_grad_(False)

@pytest.fixture(scope='module')
def exam(): return make_exam(faces(6, torch.Generator().manual_seed(1)), (200, 700))

@pytest.fixture(scope='module')
def den(model): return Denoiser(ForeignUNet(model), 'ε')

# ---- the wrapper -------------------------------------------------------------------------------

def test_wrapping_changes_nothing(model, den, exam):
    x, t = exam.at(200)
    assert torch.equal(den(x, t), model(x, t).sample)
    kinds = [s.kind for s in sites(den.net).values()]
    assert kinds.count('block') == 12 and kinds.count('skip') == 4 and kinds.count('head') == 16

plain, attending = ('DownBlock2D', 'UpBlock2D'), ('AttnDownBlock2D', 'AttnUpBlock2D')

@settings(max_examples=12, deadline=None)
@given(kinds=st.lists(st.sampled_from([plain, attending]), min_size=1, max_size=3),
       layers=st.integers(1, 2), head=st.sampled_from([4, 8, None]),
       how=st.sampled_from(['default', 'scale_shift']), middle=st.booleans(),
       scale=st.sampled_from([1., 2.]), time=st.sampled_from(['positional', 'learned']))
def test_the_plan_is_the_models_own_forward_pass(kinds, layers, head, how, middle, scale, time):
    torch.manual_seed(len(kinds) + layers)
    channels = (8, 16, 16)[:len(kinds)]
    model = diffusers.UNet2DModel(
        sample_size=16, in_channels=2, out_channels=1, layers_per_block=layers, norm_num_groups=4,
        block_out_channels=channels, attention_head_dim=head, add_attention=middle,
        down_block_types=tuple(down for down, _ in kinds), mid_block_scale_factor=scale,
        up_block_types=tuple(up for _, up in reversed(kinds)), resnet_time_scale_shift=how,
        time_embedding_type=time, num_train_timesteps=1000).eval()
    x, t = torch.randn(2, 2, 16, 16), torch.tensor([3, 870])
    net = ForeignUNet(model)
    with torch.no_grad():
        assert torch.equal(net(x, t), model(x, t).sample)
        assert torch.equal(net(x, 40), model(x, 40).sample)
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in model.parameters())

@pytest.mark.parametrize('change, word', [
    (dict(num_class_embeds=4), 'class labels'), (dict(center_input_sample=True), 'centred'),
    (dict(time_embedding_type='fourier'), 'Fourier'), (dict(mid_block_type=None), 'middle'),
    (dict(downsample_type='resnet'), 'ResnetBlock2D'),
    (dict(upsample_type='resnet'), 'ResnetBlock2D'),
    (dict(down_block_types=('DownBlock2D', 'ResnetDownsampleBlock2D')), 'ResnetDownsampleBlock2D'),
    (dict(up_block_types=('SkipUpBlock2D', 'UpBlock2D')), 'SkipUpBlock2D')])
def test_other_models_are_refused(change, word):
    base = SMALL | dict(down_block_types=('AttnDownBlock2D', 'DownBlock2D'),
                        up_block_types=('AttnUpBlock2D', 'UpBlock2D'))
    with pytest.raises(ValueError, match=word): ForeignUNet(diffusers.UNet2DModel(**base | change))

def test_other_modules_are_refused():
    with pytest.raises(ValueError, match='UNet2DModel'): ForeignUNet(torch.nn.Linear(1, 1))

def test_another_way_to_attend_is_refused():
    model = diffusers.UNet2DModel(**SMALL)
    model.mid_block.attentions[0].processor = torch.nn.Identity()
    with pytest.raises(ValueError, match='Identity'): ForeignUNet(model)

def test_block_edit_is_what_a_plain_hook_gives(den, model, exam):
    x, t = exam.at(700)
    conv = model.up_blocks[1].resnets[0].conv2
    handle = conv.register_forward_hook(lambda m, i, o: torch.zeros_like(o))
    want = model(x, t).sample
    handle.remove()
    with editing(den.net, {'up1.res0': zero}): assert torch.allclose(den(x, t), want, atol=1e-6)
    assert not torch.allclose(den(x, t), want)

def test_head_edit_is_zeroing_its_columns(den, model, exam):
    x, t = exam.at(700)
    def cut(m, i):
        a = i[0].clone()
        a[..., 8:16] = 0
        return (a,)
    handle = model.mid_block.attentions[0].to_out[0].register_forward_pre_hook(cut)
    want = model(x, t).sample
    handle.remove()
    with editing(den.net, {'mid.attn0.h1': zero}): assert torch.allclose(den(x, t), want, atol=1e-6)

def test_skip_edit_reaches_one_edge_only(den, model, exam):
    x, t = exam.at(700)
    with capturing(den.net, ['skip0', 'skip3']) as seen: den(x, t)
    assert seen['skip0'].shape == (6, 16, 16, 16) and seen['skip3'].shape == (6, 32, 8, 8)
    def cut(m, args, kw):
        edges = args[1]
        return (args[0], (torch.zeros_like(edges[0]), *edges[1:]), *args[2:]), kw
    handle = model.up_blocks[1].register_forward_pre_hook(cut, with_kwargs=True)
    want = model(x, t).sample
    handle.remove()
    with editing(den.net, {'skip0': zero}): assert torch.allclose(den(x, t), want, atol=1e-6)

def test_the_model_itself_is_left_as_it_was(den, model, exam):
    x, t = exam.at(700)
    before = model(x, t).sample
    with editing(den.net, dict.fromkeys(['mid.res0', 'mid.attn0', 'skip1'], zero)):
        assert torch.equal(model(x, t).sample, before)

# ---- one protocol: every instrument on both kinds of network -----------------------------------

@pytest.fixture(scope='module', params=['ours', 'wrapped'])
def either(request, den):
    "A denoiser around either kind of network."
    if request.param == 'wrapped': return den
    return untrained(UNetConfig(16, 1, 8, (1, 2), n_res=2, mid_res=1, temb=16, width=32))

def points(net, name):
    "(the point of a site, the head's index), found without `denoiser.sites`."
    if name in net.parts.skips: return net.parts.skips[name], None
    if name in net.parts.blocks: return net.parts.blocks[name].update, None
    layer, i = head_parts(name)
    return net.parts.layers[layer].z, i

def errors_without(den, exam, names, edit=zero):
    "The exam's errors while plain hooks edit whole forward passes."
    def hook(head):
        def run(module, inputs, out):
            if head is None: return edit(out)
            out = out.clone()
            out[:, head] = edit(out[:, head])
            return out
        return run
    found = [points(den.net, n) for n in names]
    handles = [point.register_forward_hook(hook(head)) for point, head in found]
    try: return torch.as_tensor(prediction_errors(den, exam).mse.to_numpy())
    finally:
        for h in handles: h.remove()

def test_sites_are_listed(either):
    net, known = either.net, sites(either.net)
    assert isinstance(net, Network)
    names = {kind: [n for n, s in known.items() if s.kind == kind]
             for kind in ('block', 'skip', 'head')}
    assert names['block'] == list(blocks(net)) == list(net.levels)
    assert names['skip'] == list(skips(net)) and names['head'] == heads(net)
    acts = {n: net.plan[s.step][0] for n, s in known.items()}
    assert all(op == ('join' if n in names['skip'] else 'block') for n, op in acts.items())
    assert {group(net, n) for n in heads(net)} >= {'middle'} and set(net.levels.values()) == {0, 1}
    assert all(group(net, n) == s.group for n, s in known.items())
    with pytest.raises(ValueError, match='the nearest are'): find(net, 'mid.atn')

def test_capturing(either, exam):
    names = list(sites(either.net))
    with capturing(either.net, names) as seen: either(*exam.at(200))
    assert set(seen) == set(names) and all(len(v) == len(exam) for v in seen.values())
    ranks = {n: v.ndim for n, v in seen.items()}
    assert all(ranks[n] == (3 if s.kind == 'head' else 4) for n, s in sites(either.net).items())

def test_editing_acts_and_leaves_no_trace(either, exam):
    x, t = exam.at(200)
    clean = either(x, t)
    for name in sites(either.net):
        with editing(either.net, {name: zero}): assert not torch.equal(either(x, t), clean), name
        with editing(either.net, {name: lambda h: h}): assert torch.equal(either(x, t), clean)
    with pytest.raises(ValueError, match='keeps the shape'):
        with editing(either.net, {name: lambda h: h[:1]}): either(x, t)
    assert torch.equal(either(x, t), clean)
    assert not any(m._forward_hooks for m in either.net.modules())

def test_stopping_and_going_on(either, exam):
    net, (x, t) = either.net, exam.at(200)
    for step in range(len(net.plan) + 1):
        assert torch.equal(net.advance(net.advance(net.begin(x, t), step)).h, net(x, t))

@pytest.mark.parametrize('edit', [zero, mean])
def test_sweep_gives_what_plain_hooks_give(either, exam, edit):
    names = list(sites(either.net))
    pairs = [(names[0], 'skip1'), ('skip1', names[-1]), ('skip2', 'skip1')]
    got = sweep(either, exam, names + pairs, edit)
    assert len(got) == len(names + pairs)*len(exam)*2
    for n in names + pairs:
        several = n if isinstance(n, tuple) else (n,)
        rows = got[got.site == ' + '.join(several)]
        want = errors_without(either, exam, several, edit)
        assert torch.allclose(torch.as_tensor(rows.mse.to_numpy()), want, atol=1e-6, rtol=0)
    clean = torch.as_tensor(rows.clean.to_numpy())
    assert torch.allclose(clean, errors_without(either, exam, ()), atol=1e-6, rtol=0)

def test_stream(either, exam):
    net, (x, t) = either.net, exam.at(700)
    met = {name: (h, update) for name, h, update in stream(net, x, t)}
    assert list(met) == list(blocks(net))
    with capturing(net, list(met)) as seen: net(x, t)
    assert all(torch.equal(seen[n], update) for n, (_, update) in met.items())
    assert all(h.shape == update.shape for h, update in met.values())

def test_attention_maps_are_those_of_the_formula(either, exam):
    (x, t), layers, seen = exam.at(200), attention_layers(either.net), {}
    def keep(at): return lambda m, i, o: seen.__setitem__(at, o)
    handles = [getattr(layer, p).register_forward_hook(keep((n, p)))
               for n, layer in layers.items() for p in 'qk']
    clean = either(x, t)
    with attention_maps(either.net) as maps: assert torch.allclose(either(x, t), clean, atol=1e-5)
    for h in handles: h.remove()
    assert list(maps) == list(layers)
    for n, A in maps.items(): assert torch.equal(A, attention_map(seen[n, 'q'], seen[n, 'k']))

def test_maps_can_be_edited(either, exam):
    layer = list(attention_layers(either.net))[0]
    edits = {f'{layer}.h0': uniform}
    with editing(either.net, edits), attention_maps(either.net) as maps: either(*exam.at(200))
    positions = maps[layer].shape[-1]
    assert torch.allclose(maps[layer][:, 0], torch.tensor(1/positions), atol=1e-6)
    with pytest.raises(ValueError, match='has no attention maps'):
        with editing(either.net, {list(blocks(either.net))[0]: uniform}): pass
