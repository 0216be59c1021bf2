"""Attention statistics without the map, against the stored map in float64: random shapes, types and
sizes of logits; models of diffusers through their processors; the CUDA paths without contents."""
import math
import pytest, torch
from hypothesis import given, settings, strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from diffcirc.circuits import fused as module
from diffcirc.circuits.attention import attention_stats
from diffcirc.circuits.fused import (
    attend, fused, fused_distance, fused_divergence, fused_entropy, fused_position, fused_received,
    fused_renyi, naive_bits, places, reading_processors)
from diffcirc.denoiser.diffusion import make_exam, untrained
from diffcirc.denoiser.unet import UNetConfig

TYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64])
SIZES = st.sampled_from([0., 1e-3, .3, 1., 3., 20., 200.])  # the last: logits of some 100,000

@st.composite
def conditions(draw, square=False):
    "(q, k) twice, of one shape."
    b, h, d = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 40))
    n = draw(st.integers(1, 8))**2 if square else draw(st.integers(1, 70))
    g = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    kind, size, shift = draw(TYPES), draw(SIZES), draw(st.sampled_from([0., 50.]))
    def one(move=0.): return (size*torch.randn(b, h, n, d, generator=g) + move).to(kind)
    return [(one(), one(shift)) for _ in range(2)]

def weights(q, k): return (q.double() @ k.double().mT * q.shape[-1]**-.5).log_softmax(-1)

@settings(max_examples=60, deadline=None)
@given(conditions())
def test_entropies(made):
    q, k = made[0]
    f, (H, R) = fused(q, k), naive_bits(q, k)
    assert (fused_entropy(f) - H).abs().max() < 1e-4
    assert (fused_renyi(f) - R).abs().max() < 1e-4
    assert (fused_renyi(f) <= fused_entropy(f) + 1e-4).all()

@settings(max_examples=40, deadline=None)
@given(conditions())
def test_divergence_and_received(made):
    (q, k), (q2, k2) = made
    f, g, P, P2 = fused(q, k), fused(q2, k2), weights(q, k), weights(q2, k2)
    want = ((P.exp()*(P - P2)).sum(-1).mean(-1)/math.log(2)).float()
    assert torch.allclose(fused_divergence(f, g), want, atol=1e-4, rtol=1e-6)
    assert torch.allclose(fused_received(f), P.exp().mean(-2).float(), atol=1e-5)

@settings(max_examples=40, deadline=None)
@given(conditions(square=True), st.integers(1, 70))
def test_distance_and_position(made, rows):
    q, k = made[0]
    f, P, at = fused(q, k), weights(q, k).exp(), places(q.shape[-2]).double()
    distance = (P*torch.cdist(at, at)).sum(-1).mean(-1)
    assert torch.allclose(fused_distance(f, rows), distance.float(), atol=1e-4)
    assert torch.allclose(fused_position(f), (P @ at).float(), atol=1e-4)

def test_other_devices_get_blocks():
    q = torch.randn(1, 2, 30, 8)
    read, lse = module._by_blocks(q, q, q, .5, most=100)
    assert torch.allclose(read, attend(q, q, q, .5)[0], atol=1e-6)
    assert torch.allclose(lse, attend(q, q, q, .5)[1], atol=1e-6)

@pytest.mark.parametrize('kind', [torch.float32, torch.float16])
def test_cuda_paths_have_the_right_shapes(kind, monkeypatch):
    "No card here: tensors without contents. Says that arguments fit, and nothing of the numbers."
    path = module._by_flash_cuda if kind == torch.float16 else module._by_efficient
    monkeypatch.setattr(module, '_kernel', lambda q: path)
    q, k = (torch.empty(2, 3, 49, 20, device='meta', dtype=kind) for _ in range(2))
    for bias in (None, torch.empty(49, 49, device='meta')):
        read, lse = attend(q, k, k[..., :5], .3, bias)
        assert read.shape == (2, 3, 49, 5) and lse.shape == (2, 3, 49)

def test_the_path_is_chosen_by_device_and_type(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    with FakeTensorMode():
        q = torch.empty(1, 1, 4, 8, device='cuda')
        wide, half = (torch.empty(1, 1, 4, 8, device='cuda', dtype=d)
                      for d in (torch.float64, torch.float16))
        assert [module._kernel(x) for x in (q, wide, half)] == [
            module._by_efficient, module._by_blocks, module._by_efficient]
        monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
        assert module._kernel(half) is module._by_flash_cuda

# ------------------------------------------------------------------ in networks

def bits(q, k, scale): return fused_entropy(fused(q, k, scale))

def attentions(model):
    return [m for m in model.modules() if hasattr(m, 'set_processor') and hasattr(m, 'to_q')]

def test_processors_of_diffusers():
    diffusers = pytest.importorskip('diffusers')
    torch.manual_seed(0)
    model = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=2, out_channels=2, layers_per_block=1, cross_attention_dim=12,
        block_out_channels=(16, 32), norm_num_groups=8, attention_head_dim=4,
        down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D')).eval().requires_grad_(False)
    x, words, old = torch.randn(2, 2, 8, 8), torch.randn(2, 5, 12), [m.processor for m in attentions(model)]
    plain = model(x, 10, words).sample
    with reading_processors(model, bits) as seen:
        assert torch.equal(model(x, 10, words).sample, plain)
    assert [m.processor for m in attentions(model)] == old and len(seen) == len(old)
    for name, H in seen.items():
        most = math.log2(5 if name.endswith('.attn2') else 64 if 'mid' not in name else 16)
        assert ((H >= 0) & (H <= most + 1e-4)).all() and (H > .5*most).all()

def test_processors_read_what_acts():
    "The entropy through a processor is that of the map which diffusers itself computes."
    diffusers = pytest.importorskip('diffusers')
    torch.manual_seed(0)
    model = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=8,
        block_out_channels=(16, 32), attention_head_dim=8,
        down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
        up_block_types=('AttnUpBlock2D', 'UpBlock2D')).eval().requires_grad_(False)
    layer, inputs = model.mid_block.attentions[0], []
    layer.register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
    with reading_processors(model, bits) as seen: model(torch.randn(2, 1, 8, 8), 5)
    tokens = layer.group_norm(inputs[0].flatten(2)).mT
    q, k = (layer.head_to_batch_dim(to(tokens)) for to in (layer.to_q, layer.to_k))
    A = layer.get_attention_scores(q, k).unflatten(0, (2, -1)).double()
    H = -torch.special.xlogy(A, A).sum(-1).mean(-1)/math.log(2)
    assert torch.allclose(seen['mid_block.attentions.0'], H.float(), atol=1e-5)

def test_attention_under_a_mask_is_refused():
    diffusers = pytest.importorskip('diffusers')
    layer = diffusers.models.attention_processor.Attention(8, heads=2, dim_head=4)
    processor = module.ReadingProcessor(layer.processor, bits, {}, 'layer')
    with pytest.raises(ValueError, match='under a mask'):
        processor(layer, torch.randn(1, 4, 8), None, torch.zeros(1, 4))

@pytest.mark.parametrize('mapped', [0, 100, 10**6])
def test_the_instrument_gives_one_table_either_way(mapped):
    "Layers above and below the number of positions up to which maps are made."
    den = untrained(UNetConfig(16, 1, 16, (1, 2), 1, 1, 16, 32, (1, 2, 1), True, start=1.))
    exam = make_exam(torch.rand(4, 1, 16, 16)*2 - 1, (100, 700))
    want, got = (attention_stats(den, exam, mapped=m) for m in (10**6, mapped))
    assert (got[['timestep', 'image', 'head']] == want[['timestep', 'image', 'head']]).all(None)
    numbers = ['entropy', 'distance', 'h_max', 'share', 'specialization']
    assert (got[numbers] - want[numbers]).abs().max(None) < 1e-4
