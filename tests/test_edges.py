"Edges against a slow implementation by plain hooks on whole passes, on our network and a wrapped one."
from contextlib import ExitStack
import pytest, torch
diffusers = pytest.importorskip('diffusers')
from diffcirc.circuits.edges import (
    Patching, each_patched, exactness, graph_of, graph_run)
from diffcirc.circuits.finding import activations_scores, case_of
from diffcirc.denoiser.diffusers import ForeignUNet
from diffcirc.denoiser.diffusion import Denoiser, make_exam, untrained
from diffcirc.denoiser.unet import UNetConfig

def ours():
    return untrained(UNetConfig(8, 1, 8, (1, 2), 1, 1, 8, 8, (1, 2, 1), True, 1, True, 1.))

def wrapped(scale=1.):
    torch.manual_seed(0)
    return Denoiser(ForeignUNet(diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 16), attention_head_dim=8, mid_block_scale_factor=scale,
        down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
        up_block_types=('AttnUpBlock2D', 'UpBlock2D')).eval().requires_grad_(False)), 'ε')

def scaled(): return wrapped(2.)

MAKE = pytest.mark.parametrize('make', [ours, wrapped, scaled], ids=['ours', 'wrapped', 'scaled'])

def places(net):
    "{node or reader: (module, head, of which the output is what the node writes or has read)}."
    start = next(i for i, (op, _) in enumerate(net.plan) if op != 'apply')
    out = dict(stem=(net.get_submodule(net.plan[start - 1][1]), None))
    out |= {n: (p, None) for n, p in net.parts.skips.items()}
    for name, block in net.parts.blocks.items():
        if name not in net.parts.layers: out[name] = block.update, None
        if hasattr(block, 'proj_in'):
            out |= {f'{name}.in': (block.proj_in, None), f'{name}.mlp': (block.mlp_update, None)}
    for name, layer in net.parts.layers.items():
        for i in range(layer.heads):
            out[f'{name}.h{i}'] = layer.z, i
            out |= {f'{name}.h{i}.{p}': (getattr(layer, p), i) for p in 'qkv'}
    return out

def passed(net, x, t, names, instead):
    "(output, {name: what would have passed there}) with `instead` {name: value} put in its place."
    at, seen, modules = places(net), {}, {}
    for n in {*names, *instead}: modules.setdefault(at[n][0], []).append(n)
    def hook(own):
        def run(module, inputs, out):
            new = out.clone()
            for n in own:
                head = at[n][1]
                seen[n] = out.clone() if head is None else out[:, head].clone()
                if n not in instead: continue
                if head is None: new = instead[n]
                else: new[:, head] = instead[n]
            return new
        return run
    with ExitStack() as stack:
        for m, own in modules.items(): stack.callback(m.register_forward_hook(hook(own)).remove)
        return net(x, t), seen

def slowly(net, x, t, edge, clean, corrupt):
    "The output with one edge patched: first every other node is held, then the reader is."
    sender, reader = edge
    held = {n: v for n, v in clean.items() if n != sender} | {sender: corrupt[sender]}
    out, seen = passed(net, x, t, [reader] if reader != 'output' else [], held)
    if reader == 'output': return out
    return passed(net, x, t, [], {reader: seen[reader]})[0]

@MAKE
def test_every_edge_is_what_plain_hooks_give(make):
    den = make()
    net, g = den.net, graph_of(den.net)
    torch.manual_seed(1)
    x, y, t = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8), torch.tensor([200, 800])
    with torch.no_grad():
        clean, corrupt = (passed(net, v, t, g.nodes, {})[1] for v in (x, y))
        got = dict(each_patched(den, g, x, t, graph_run(g, y, t)[1]))
        assert set(got) == {(), *g.edges}
        moved = 0
        for e in g.edges:
            want = den.read(slowly(net, x, t, e, clean, corrupt), x, t)
            torch.testing.assert_close(got[e], want, atol=2e-5, rtol=1e-4)
            moved += not torch.allclose(want, got[()], atol=1e-5)
    assert moved > .5*len(g.edges)

@MAKE
def test_contributions_add_up(make):
    exam = make_exam(torch.rand(3, 1, 8, 8)*2 - 1, (100, 900))
    e = exactness(make(), exam)
    assert e.error.max() < 1e-5 and set(e.timestep) == {100, 900}

@MAKE
def test_rows_are_circuits_of_their_own(make):
    den = make()
    g = graph_of(den.net)
    torch.manual_seed(2)
    x, t = torch.randn(3, 1, 8, 8), torch.full((3,), 400)
    other = {n: v.flip(0) for n, v in graph_run(g, x, t)[1].items()}
    keep = (torch.rand(len(g.edges), 3) < .7).float()
    with torch.no_grad():
        together, _ = graph_run(g, x, t, Patching(keep, other))
        for i in range(3):
            own = {n: v[i:i + 1] for n, v in other.items()}
            alone, _ = graph_run(g, x[i:i + 1], t[:1], Patching(keep[:, i:i + 1], own))
            torch.testing.assert_close(together[i:i + 1], alone, atol=1e-5, rtol=1e-4)

@MAKE
def test_no_hook_is_left(make):
    den = make()
    c = case_of(den, make_exam(torch.rand(2, 1, 8, 8), (300,)), 300, 'noise')
    activations_scores(c, 1)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in den.net.modules())
