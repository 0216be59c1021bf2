"""Paired timings of what this project does differently from the plain way. Writes results.csv and
results.json beside itself."""
import json, multiprocessing as mp, os, statistics, time
from pathlib import Path
os.environ.setdefault('OMP_NUM_THREADS', '1')
import pandas as pd, torch
from diffcirc.core import environment, preset
from diffcirc.denoiser import unet
from diffcirc.denoiser.diffusion import make_exam, prediction_errors, untrained
from diffcirc.denoiser.sites import editing, sites, sweep, zero
from diffcirc.denoiser.training import Crew, TrainConfig, Trainer, keep_big_buffers

HERE, ROWS = Path(__file__).parent, []

def paired(what, baseline, ours, n=7):
    "Time both in turn; keep the medians and their ratio."
    baseline()
    ours()
    a, b = [], []
    for _ in range(n):
        for f, into in ((baseline, a), (ours, b)):
            t = time.perf_counter()
            f()
            into.append(time.perf_counter() - t)
    ROWS.append(dict(what=what, baseline_s=statistics.median(a), ours_s=statistics.median(b),
                     speedup=statistics.median(x/y for x, y in zip(a, b)), runs=n))
    print(ROWS[-1], flush=True)

def trainer(batch=8):
    x, net = torch.rand(256, 3, 32, 32)*2 - 1, unet.UNetConfig.from_preset(preset('cpu'))
    return Trainer(x, TrainConfig(net, steps=10**6, batch=batch), Crew('cpu'))

def training_step():
    tr = trainer()
    ours = unet.GroupNorm.forward, unet.fused_attention
    plain = torch.nn.GroupNorm.forward, torch.nn.functional.scaled_dot_product_attention
    def run(norm, attention):
        def go():
            unet.GroupNorm.forward, unet.fused_attention = norm, attention
            [tr.step() for _ in range(4)]
            unet.GroupNorm.forward, unet.fused_attention = ours
        return go
    paired('training step: group norm in float32', run(plain[0], ours[1]), run(*ours))
    paired('training step: attention by products', run(ours[0], plain[1]), run(*ours))
    paired('training step: both', run(*plain), run(*ours))

def head_sweep():
    den = untrained(unet.UNetConfig.from_preset(preset('cpu')))
    exam = make_exam(torch.rand(32, 3, 32, 32)*2 - 1, (300,))
    for label, names in (('heads', unet.heads(den.net)), ('all sites', list(sites(den.net)))):
        def plain():
            prediction_errors(den, exam)
            for n in names:
                with editing(den.net, {n: zero}): prediction_errors(den, exam)
        paired(f'sweep over {label}: going on from the edited block', plain,
               lambda: sweep(den, exam, names), 3)

def _steps(n):
    torch.set_num_threads(1)
    keep_big_buffers()
    tr = trainer()
    tr.step()
    t = time.perf_counter()
    [tr.step() for _ in range(n)]
    return time.perf_counter() - t

def side_by_side(n=30):
    "Two trainings: one after the other on two threads, against side by side on one thread each."
    torch.set_num_threads(2)
    keep_big_buffers()
    tr = trainer()
    tr.step()
    t = time.perf_counter()
    [tr.step() for _ in range(2*n)]
    serial = time.perf_counter() - t
    with mp.get_context('spawn').Pool(2) as pool: pair = max(pool.map(_steps, [n, n]))
    ROWS.append(dict(what='two trainings: one thread each, side by side', baseline_s=serial,
                     ours_s=pair, speedup=serial/pair, runs=1))
    print(ROWS[-1])

if __name__ == '__main__':
    torch.set_num_threads(1)
    training_step()
    head_sweep()
    side_by_side()
    pd.DataFrame(ROWS).round(4).to_csv(HERE/'results.csv', index=False)
    about = environment() | dict(preset='cpu', batch=8)
    (HERE/'results.json').write_text(json.dumps(about, indent=1) + '\n')
