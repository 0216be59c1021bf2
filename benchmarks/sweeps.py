"""Sweeps over all sites against plain hooks on whole passes, same network, same tuning, one process:
first that both say the same, then paired timings, beside the bound by floating-point operations.
Prints a table; `python benchmarks/sweeps.py [images] [rounds]`."""
import os, statistics, sys, time
os.environ.setdefault('OMP_NUM_THREADS', '1')
import pandas as pd, torch
from torch.utils.flop_counter import FlopCounterMode
from diffcirc.core import preset
from diffcirc.denoiser.diffusers import ForeignUNet
from diffcirc.denoiser.diffusion import Denoiser, make_exam, untrained
from diffcirc.denoiser.sites import mean, sites, sweep, zero
from diffcirc.denoiser.unet import UNetConfig
from diffcirc.study.jobs import full_precision

WIDER = dict(sample_size=32, in_channels=3, out_channels=3, layers_per_block=1,
             block_out_channels=(32, 64, 128), norm_num_groups=8, attention_head_dim=64,
             down_block_types=('DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D'),
             up_block_types=('UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'))

def flops(f):
    "Floating-point operations of f(); attention is counted with fused kernels taken apart."
    with FlopCounterMode(display=False) as counter, \
         torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH): f()
    return counter.get_total_flops()

def paired(plain, ours, rounds):
    "Processor seconds of both, in turn."
    took = []
    for _ in range(rounds):
        for f in (plain, ours):
            start = time.process_time()
            f()
            took.append(time.process_time() - start)
    return list(zip(took[::2], took[1::2]))

def row(what, den, exam, names, edit, rounds):
    "One line of the table. AssertionError where the arms do not agree."
    def plain(): return sweep(den, exam, names, edit, memory=0)
    def ours(): return sweep(den, exam, names, edit)
    want = plain().mse
    apart = float(((want - ours().mse).abs()/want.clip(lower=.1)).max())
    assert apart < 2e-6, f'{what}: the arms differ by {apart:.1e} of the error'
    times = paired(plain, ours, rounds)
    ratios = [a/b for a, b in times]
    return dict(what=what, sites=len(names), plain_s=statistics.median(a for a, _ in times),
                ours_s=statistics.median(b for _, b in times), ratio=statistics.median(ratios),
                least=min(ratios), most=max(ratios), flop_ratio=flops(plain)/flops(ours), apart=apart)

def networks():
    "{name: denoiser}: ours at the default size, with more skip edges, and one of diffusers."
    from diffusers import UNet2DModel
    torch.manual_seed(0)
    more = UNetConfig(base=32, width=128)
    return {'default': untrained(UNetConfig.from_preset(preset('cpu'))), 'three skip edges': untrained(more),
            'UNet2DModel': Denoiser(ForeignUNet(UNet2DModel(**WIDER).eval().requires_grad_(False)), 'ε')}

def main(images=50, rounds=3):
    "Time all networks."
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    exam, rows = make_exam(torch.rand(images, 3, 32, 32)*2 - 1, (100, 600)), []
    with torch.no_grad(), full_precision('cpu'):
        for name, den in networks().items():
            den.net.to(memory_format=torch.channels_last)
            known = sites(den.net)
            of_heads = [n for n, s in known.items() if s.kind == 'head']
            for which, names in (('all sites', list(known)), ('heads', of_heads)):
                for edit in (zero, mean):
                    rows.append(row(f'{name}, {which}, {edit.__name__}', den, exam, names, edit, rounds))
                    print(rows[-1], flush=True)
    print(pd.DataFrame(rows).to_string())

if __name__ == '__main__': main(*map(int, sys.argv[1:]))
