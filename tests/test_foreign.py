"The wrapper around diffusers' UNet2DModel, on a small model trained here."
import pytest, torch
diffusers = pytest.importorskip('diffusers')
from diffcirc.diffusion import Denoiser, add_noise, prediction_errors, make_exam
from diffcirc.foreign import ForeignUNet
from diffcirc.sites import attention_maps, capturing, editing, resample, sites, sweep, uniform, zero

def faces(n, g):
    return torch.stack([(torch.linspace(-1, 1, 16)*s).expand(16, 16) for s in torch.randn(n, generator=g)]).clamp(-1,
        1)[:, None]

@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0); g = torch.Generator().manual_seed(0)
    m = diffusers.UNet2DModel(sample_size=16, in_channels=1, out_channels=1, layers_per_block=1,
                              block_out_channels=(16, 32), norm_num_groups=8, attention_head_dim=8,
                              down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
                              up_block_types=('AttnUpBlock2D', 'UpBlock2D'))
    opt = torch.optim.Adam(m.parameters(), 2e-3)
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

def test_wrapping_changes_nothing(model, exam):
    x, t = exam.at(200)
    before = model(x, t).sample
    den = Denoiser(ForeignUNet(model), 'ε')
    assert torch.allclose(den(x, t), before, atol=1e-5)
    kinds = [s.kind for s in sites(den.net).values()]
    assert kinds.count('block') == 12 and kinds.count('skip') == 4 and kinds.count('head') == 16

@pytest.fixture(scope='module')
def den(model): return Denoiser(ForeignUNet(model), 'ε')

def test_block_edit_is_what_a_plain_hook_gives(den, model, exam):
    x, t = exam.at(700)
    h = model.up_blocks[1].resnets[0].conv2.register_forward_hook(lambda m, i, o: torch.zeros_like(o))
    want = model(x, t).sample
    h.remove()
    with editing(den.net, {'up1.res0': zero}): assert torch.allclose(den(x, t), want, atol=1e-6)
    assert not torch.allclose(den(x, t), want)

def test_head_edit_is_zeroing_its_columns(den, model, exam):
    x, t = exam.at(700); lin = model.mid_block.attentions[0].to_out[0]
    def cut(m, i):
        a = i[0].clone()
        a[..., 8:16] = 0
        return (a,)
    h = lin.register_forward_pre_hook(cut)
    want = model(x, t).sample
    h.remove()
    with editing(den.net, {'mid.attn0.h1': zero}): assert torch.allclose(den(x, t), want, atol=1e-6)

def test_skip_edit_reaches_one_edge_only(den, model, exam):
    x, t = exam.at(700)
    with capturing(den.net, ['skip0', 'skip3']) as seen: den(x, t)
    assert seen['skip0'].shape == (6, 16, 16, 16) and seen['skip3'].shape == (6, 32, 8, 8)
    def cut(m, args, kw):
        skips = args[1]
        return (args[0], (torch.zeros_like(skips[0]), *skips[1:]), *args[2:]), kw
    h = model.up_blocks[1].register_forward_pre_hook(cut, with_kwargs=True)
    want = model(x, t).sample
    h.remove()
    with editing(den.net, {'skip0': zero}): assert torch.allclose(den(x, t), want, atol=1e-6)

def test_attention_maps_and_their_edits(den, exam):
    x, t = exam.at(200); clean = den(x, t)
    with attention_maps(den.net) as maps: assert torch.allclose(den(x, t), clean, atol=1e-5)
    assert len(maps) == 4 and all(torch.allclose(A.sum(-1), torch.ones(A.shape[:-1]), atol=1e-5) for A in maps.values())
    with editing(den.net, {'down1.attn0.h0': uniform}), attention_maps(den.net) as maps: den(x, t)
    assert torch.allclose(maps['down1.attn0'][:, 0], torch.full((6, 64, 64), 1/64), atol=1e-6)

def test_sweep_and_errors(den, exam):
    before = den(*exam.at(200))
    out = sweep(den, exam, ['mid.res0', ('skip0', 'up1.res0')])
    assert set(out.site) == {'mid.res0', 'skip0 + up1.res0'} and len(out) == 2*2*6
    assert (out[out.site == 'mid.res0'].clean.to_numpy() == pytest.approx(prediction_errors(den, exam).mse.to_numpy(), abs=1e-5))
    with pytest.raises(ValueError, match='mid.attn0.h1'):
        with editing(den.net, {'mid.attn.h1': zero}): pass
    with pytest.raises(ValueError, match='keeps the shape'):
        with editing(den.net, {'mid.res0': lambda x: x[:1]}): den(*exam.at(200))
    assert torch.equal(den(*exam.at(200)), before)  # no hook is left
    with pytest.raises(ValueError, match='UNet2DModel'): ForeignUNet(torch.nn.Linear(1, 1))
