"""Times what this project does beside what others offer for it, on one machine in one process, the
arms in turn. First the arms have to agree on the numbers. Writes results.csv, profile.csv (of a
training step) and scaling.csv beside itself; README.md says what the columns are.

    make bench                                  # everything, in an environment of its own
    python benchmarks/bench.py --toy --out /tmp/bench    # small sizes, in seconds
"""
import argparse, os, subprocess, sys, tempfile, time
QUIET = dict(OMP_WAIT_POLICY='PASSIVE', GOMP_SPINCOUNT='1000', HF_HUB_OFFLINE='1',
             KINETO_LOG_LEVEL='99', TRANSFORMERS_VERBOSITY='error', WANDB_MODE='disabled')
for name, value in QUIET.items(): os.environ.setdefault(name, value)
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
import pandas as pd, torch, torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import diffcirc, peers
from diffcirc.circuits.fused import (
    fused, fused_distance, fused_divergence, fused_entropy, fused_renyi, naive_bits, places)
from diffcirc.core import environment, preset
from diffcirc.denoiser.diffusion import Denoiser, make_exam, untrained
from diffcirc.denoiser.diffusers import ForeignUNet
from diffcirc.denoiser.sites import sites, sweep
from diffcirc.denoiser.training import Crew, TrainConfig, Trainer
from diffcirc.denoiser.unet import UNetConfig, n_params
from diffcirc.study.jobs import full_precision

OURS = 'diffcirc'
LOAD = .5    # load average per core, before anything runs, from which a machine counts as busy
OTHERS = .1  # share of the machine that other processes took while an arm ran, likewise

@dataclass
class Arm:
    "One way to do a piece of work: `run()` does it, `version` says whose."
    run: callable
    version: str = None
    note: str = ''
    unwatched: bool = False  # its operations and memory are not counted (another process)

@dataclass
class Work:
    "A piece of work, its arms and which of them is ours; `images` in it."
    name: str
    arms: dict
    ours: str
    images: int = None
    check: callable = lambda: {}     # raises where arms disagree; {arm: note}
    rounds: int = 5

# ------------------------------------------------------------------ measuring

def jiffies():
    "(busy in the whole machine, this process and its children), seconds of processor time."
    try: user, nice, system, idle, iowait, *more = map(int, open('/proc/stat').readline().split()[1:])
    except OSError: return None
    own = os.times()
    return ((user + nice + system + sum(more[:2]))/os.sysconf('SC_CLK_TCK'), sum(own[:4]))

def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()

def timed(f):
    "(seconds, share of the machine that other processes took meanwhile, NaN where unknown)."
    before, began = jiffies(), time.perf_counter()
    f()
    seconds, after = time.perf_counter() - began, jiffies()
    if before is None: return seconds, float('nan')
    others = (after[0] - before[0]) - (after[1] - before[1])
    return seconds, max(0, others)/(seconds*os.cpu_count())

def in_turn(arms, rounds):
    "{arm: (seconds of each round, others' mean share)}, the order turned by one each round."
    names = list(arms)
    seen = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names):] + names[:i % len(names)]:
            seen[name].append(timed(arms[name].run))
    return {k: ([s for s, _ in v], sum(o for _, o in v)/len(v)) for k, v in seen.items()}

def counted(f):
    """(most MiB of tensors that f() had allocated at one time beyond those that were there, GFLOP of
    its products and convolutions, two for each multiplication)."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        with FlopCounterMode(display=False) as flops: f()
    events = [e for e in p.profiler.kineto_results.events() if e.name() == '[memory]']
    now = most = 0
    for e in sorted(events, key=lambda e: e.start_ns()):
        now += e.nbytes()
        most = max(most, now)
    return most/2**20, flops.get_total_flops()/1e9

def hardware():
    about = environment()
    return f"{about['machine']}, {cores()} cores, torch {about['torch']}"

def measured(work, busy):
    "Rows of one work: arms compared, counted (which warms them up), then timed in turn."
    notes = work.check()
    counts = {name: (float('nan'),)*2 if arm.unwatched else counted(arm.run)
              for name, arm in work.arms.items()}
    times = in_turn(work.arms, work.rounds)
    ours, rows = times[work.ours][0], []
    for name, (seconds, others) in times.items():
        arm = work.arms[name]
        rows.append(dict(
            work=work.name, arm=name, version=arm.version or diffcirc.__version__,
            median_s=median(seconds), min_s=min(seconds), max_s=max(seconds),
            peak_mib=counts[name][0], ratio_to_ours=median(a/b for a, b in zip(seconds, ours)),
            hardware=hardware(), date=time.strftime('%Y-%m-%d'),
            busy='yes' if busy or others > OTHERS else 'no', others=others, rounds=work.rounds,
            images=work.images, gflop=counts[name][1] or float('nan'),
            note='; '.join(n for n in (arm.note, notes.get(name, '')) if n)))
        print(f"{work.name:34} {name:44} {median(seconds):9.4f} s  "
              f"{rows[-1]['ratio_to_ours']:6.2f} ×  {counts[name][0]:8.1f} MiB  {rows[-1]['busy']}",
              flush=True)
    return rows

def agree(got, want, tolerance, who):
    "Raise where two {name: numbers} differ by more; numbers within tolerance·(1 + |number|)."
    worst = max(float(((got[k] - v).abs()/(1 + v.abs())).max()) for k, v in want.items())
    assert worst < tolerance, f'{who} differs by {worst:.2g}'

# ------------------------------------------------------------------ sweeps over sites

def alive(net, seed=0):
    "The network with noise on all weights: a new block adds nothing, so no edit would show."
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for p in net.parameters(): p.data += .5*torch.randn_like(p)/max(p[0].numel(), 4)**.5
    return net

def our_network(toy):
    cfg = UNetConfig(16, 1, 16, (1, 2), 1, 1, 16, 32, (1, 2, 1), True, 1, True, .3) if toy else \
        UNetConfig.from_preset(preset('cpu'))
    den = untrained(cfg)
    alive(den.net)
    return den

def their_network(toy):
    "A `UNet2DModel` of diffusers, wrapped."
    from diffusers import UNet2DModel
    c = (16, 32) if toy else (32, 64, 128)
    model = UNet2DModel(
        sample_size=16 if toy else 32, in_channels=3, out_channels=3, layers_per_block=1,
        block_out_channels=c, norm_num_groups=8, attention_head_dim=8,
        down_block_types=('DownBlock2D',)*(len(c) - 1) + ('AttnDownBlock2D',),
        up_block_types=('AttnUpBlock2D',) + ('UpBlock2D',)*(len(c) - 1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        alive(model)
    return Denoiser(ForeignUNet(model.eval().requires_grad_(False)), 'ε')

def an_exam(n, times, size, channels):
    images = torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0))*2 - 1
    return make_exam(images, times)

@contextmanager
def as_shipped():
    "PyTorch as it comes."
    with torch.no_grad(): yield

@contextmanager
def tuned():
    "As this book measures: float32, by the faster library, big buffers kept."
    with torch.no_grad(), full_precision('cpu'): yield

def by_ours(den, exam, names):
    "{site: mse (n,)} of `sweep`."
    s = sweep(den, exam, names)
    return {n: torch.as_tensor(s[s.site == n].mse.to_numpy()) for n in names}

def one_by_one(arm, exam, names):
    "The same of an arm of `peers`, over the exam's timesteps."
    found = {n: [] for n in names}
    for t in exam.timesteps:
        for _, x, tt, ε in exam.batches(t, 100, 'cpu'):
            for n, mse in arm(x, tt, ε, names).items(): found[n].append(mse)
    return {n: torch.cat(v) for n, v in found.items()}

def within(context, f, *args):
    "A function without arguments: f(*args) within the context."
    def run():
        with context(): return f(*args)
    return run

def sweep_arms(den, exam, names, tuned=tuned):
    "Ours, plain hooks with and without our tuning, and the peers that are installed."
    last = deepcopy(den).to(memory_format=torch.channels_last)  # `to` changes the network itself
    arms = {OURS: Arm(within(tuned, by_ours, last, exam, names)),
            'plain hooks, same tuning': Arm(
                within(tuned, one_by_one, peers.plain_hooks(last), exam, names), torch.__version__),
            'plain hooks, as shipped': Arm(
                within(as_shipped, one_by_one, peers.plain_hooks(den), exam, names),
                torch.__version__)}
    return arms

def with_peers(arms, den, exam, names):
    for package, arm in peers.installed().items():
        run = within(as_shipped, one_by_one, arm(den), exam, names)
        arms[package] = Arm(run, peers.version_of(package))
    return arms

def check_sweep(arms, den, exam, names):
    "All arms give the same errors; pyvene but for skip edges, which it cuts for the encoder too."
    want, notes = arms['plain hooks, as shipped'].run(), {}
    for name, arm in arms.items():
        got, keep = arm.run(), names
        if name == 'pyvene':
            keep = [n for n in names if sites(den.net)[n].kind != 'skip']
            edges = [n for n in names if n not in keep]
            other = [n for n in edges if (got[n] - want[n]).abs().max() > 1e-3]
            if other: notes[name] = ('edits in place: other numbers at ' + ', '.join(other))
        agree({n: got[n] for n in keep}, {n: want[n] for n in keep}, 1e-3, name)
    return notes

def work_sweep(toy):
    "All sites of our network, one at a time, set to zero."
    den = our_network(toy)
    cfg = den.net.cfg
    exam, names = an_exam(4 if toy else 16, (300,), cfg.size, cfg.channels), list(sites(den.net))
    arms = with_peers(sweep_arms(den, exam, names), den, exam, names)
    yield Work('sweep over all sites', arms, OURS, len(exam)*len(names),
               partial(check_sweep, arms, den, exam, names))
    blocks = [n for n in names if sites(den.net)[n].kind == 'block']
    arms = sweep_arms(den, exam, blocks)
    yield Work('sweep over blocks', arms, OURS, len(exam)*len(blocks),
               partial(check_sweep, arms, den, exam, blocks))

def work_foreign(toy):
    "All sites of a network of diffusers."
    if not find_spec('diffusers'): return
    den = their_network(toy)
    size = 16 if toy else 32
    exam, names = an_exam(4 if toy else 16, (300,), size, 3), list(sites(den.net))
    if not toy: names = names[::2]
    # heads of width 8 are slower by the library that serves the book's networks best
    arms = sweep_arms(den, exam, names, as_shipped)
    yield Work('sweep in a diffusers network', arms, OURS, len(exam)*len(names),
               partial(check_sweep, arms, den, exam, names), rounds=3)

# ------------------------------------------------------------------ attention statistics

def stored(q, k, distance=True):
    "Entropy, Rényi-2 and attended distance by the stored map, in the type of q."
    A = (q @ k.mT * q.shape[-1]**-.5).softmax(-1)
    H = -torch.special.xlogy(A, A).sum(-1).mean(-1)/torch.tensor(2.).log()
    if not distance: return dict(entropy=H)
    at = places(q.shape[-2])
    return dict(entropy=H, renyi=-(A*A).sum(-1).log2().mean(-1),
                distance=(A*torch.cdist(at, at)).sum(-1).mean(-1))

def stored_divergence(q, k, q2, k2):
    P, P2 = ((a @ b.mT * a.shape[-1]**-.5).log_softmax(-1) for a, b in ((q, k), (q2, k2)))
    return dict(divergence=(P.exp()*(P - P2)).sum(-1).mean(-1)/torch.tensor(2.).log())

def ours_of(q, k, more=False):
    f = fused(q, k)
    if not more: return dict(entropy=fused_entropy(f))
    return dict(entropy=fused_entropy(f), renyi=fused_renyi(f), distance=fused_distance(f))

def ours_divergence(q, k, q2, k2):
    return dict(divergence=fused_divergence(fused(q, k), fused(q2, k2)))

def check_attention(q, k, arms):
    "Entropy and Rényi-2 within 1e-4 bits of float64, all others within 1e-3 of the stored map."
    some = q[:1], k[:1]  # float64 maps of one image
    for name, want in zip(('entropy', 'renyi'), naive_bits(*some)):
        error = (ours_of(*some, more=True)[name] - want).abs().max()
        assert error < 1e-4, f'{name} is {error:.2g} bits from float64'
    for a in (n for n in arms if n.startswith(OURS)):
        agree(arms[a].run(), arms[a.replace(OURS, 'stored map')].run(), 1e-3, a)
    return {}

def work_attention(toy):
    "Statistics of eight heads of width 32."
    for n, b in ((16, 2), (64, 1)) if toy else ((256, 16), (1024, 4), (4096, 1)):
        g = torch.Generator().manual_seed(n)
        q, k, v, q2, k2 = torch.randn(5, b, 8, n, 32, generator=g)
        arms = {'plain attention': Arm(partial(F.scaled_dot_product_attention, q, k, v),
                                       torch.__version__),
                f'{OURS}: entropy': Arm(partial(ours_of, q, k)),
                'stored map: entropy': Arm(partial(stored, q, k, False)),
                f'{OURS}: entropy, Rényi-2, distance': Arm(partial(ours_of, q, k, True)),
                'stored map: entropy, Rényi-2, distance': Arm(partial(stored, q, k)),
                f'{OURS}: divergence': Arm(partial(ours_divergence, q, k, q2, k2)),
                'stored map: divergence': Arm(partial(stored_divergence, q, k, q2, k2))}
        arms = {name: replace(arm, run=within(as_shipped, arm.run)) for name, arm in arms.items()}
        yield Work(f'attention statistics, N = {n}', arms, f'{OURS}: entropy', b,
                   partial(check_attention, q, k, arms))

# ------------------------------------------------------------------ training steps

def our_trainer(toy, batch, recipe):
    "Two steps of our trainer: the book's recipe, or AdamW for all weights."
    p = preset('smoke' if toy else 'cpu')
    cfg = replace(TrainConfig.from_preset(p), batch=batch, steps=10**6, threads=cores())
    if not recipe: cfg = replace(cfg, muon=0., pull=0.)
    images = torch.rand(4*batch, 3, p.size, p.size, generator=torch.Generator().manual_seed(0))*2 - 1
    return Trainer(images, cfg, Crew('cpu'))

def stepping(loss_of, module, opt):
    "A step of training as both peers take it, gradients clipped: function → loss."
    def step():
        loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.)
        opt.step()
        opt.zero_grad()
        return loss.item()
    return step

def diffusers_step(toy, batch):
    "The step of diffusers' train_unconditional.py: ε-loss, AdamW, float32."
    from diffusers import DDPMScheduler, UNet2DModel
    c = (16, 16, 32) if toy else (28, 56, 112)
    model = UNet2DModel(
        sample_size=32, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=c,
        norm_num_groups=4, attention_head_dim=8,
        down_block_types=('DownBlock2D', 'DownBlock2D', 'AttnDownBlock2D'),
        up_block_types=('AttnUpBlock2D', 'UpBlock2D', 'UpBlock2D'))
    schedule = DDPMScheduler(num_train_timesteps=1000)
    opt = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(.95, .999), weight_decay=1e-6)
    images = torch.rand(4*batch, 3, 32, 32)*2 - 1
    def loss():
        x = images[torch.randint(len(images), (batch,))]
        ε, t = torch.randn_like(x), torch.randint(1000, (batch,))
        return F.mse_loss(model(schedule.add_noise(x, ε, t), t).sample, ε)
    return stepping(loss, model, opt), model

def lucidrains_step(toy, batch):
    "The step of its `Trainer`: `GaussianDiffusion` as in the README, Adam, float32."
    lib = peers.lucidrains()
    model = lib.Unet(dim=16 if toy else 28, dim_mults=(1, 2) if toy else (1, 2, 4), flash_attn=False)
    diffusion = lib.GaussianDiffusion(model, image_size=32, timesteps=1000)
    opt = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(.9, .99))
    images = torch.rand(4*batch, 3, 32, 32)
    def loss(): return diffusion(images[torch.randint(len(images), (batch,))])
    return stepping(loss, diffusion, opt), model

def check_training(steps, models, toy):
    "Losses are numbers and the networks are of one size (within a tenth; not at toy size)."
    sizes = {name: n_params(m) for name, m in models.items()}
    for name, step in steps.items():
        loss = step()
        assert loss == loss and 0 < loss < 100, f'{name}: loss {loss}'
    off = {k: v/sizes[OURS] - 1 for k, v in sizes.items()}
    assert toy or all(abs(x) < .1 for x in off.values()), sizes
    return {k: f'{v:,} parameters' for k, v in sizes.items()}

def work_training(toy):
    "Optimizer steps on a batch, forward, backward and update."
    batch = 4 if toy else 32
    book, plain = our_trainer(toy, batch, True), our_trainer(toy, batch, False)
    steps = {OURS: plain.step, f"{OURS}, the book's recipe": book.step}
    models, versions = {OURS: plain.net, f"{OURS}, the book's recipe": book.net}, {}
    for package, make in (('diffusers', diffusers_step),
                          ('denoising-diffusion-pytorch', lucidrains_step)):
        if find_spec(package.replace('-', '_')):
            steps[package], models[package] = make(toy, batch)
            versions[package] = peers.version_of(package)
    arms = {n: Arm(_grad(step), versions.get(n)) for n, step in steps.items()}
    yield Work('training step', arms, OURS, batch, partial(check_training, steps, models, toy), 7)

def _grad(step):
    def run():
        with torch.enable_grad(): step()
    return run

def profiled(toy, steps=5):
    "Milliseconds that each operator takes by itself in a step of ours (AdamW): op, self_ms, calls."
    tr = our_trainer(toy, 4 if toy else 32, False)
    with torch.enable_grad():
        tr.step()
        with profile(activities=[ProfilerActivity.CPU]) as p:
            for _ in range(steps): tr.step()
    rows = [dict(op=e.key, self_ms=e.self_cpu_time_total/1e3/steps, calls=e.count/steps)
            for e in p.key_averages()]
    return pd.DataFrame(rows).sort_values('self_ms', ascending=False).query('self_ms > 0')

# ------------------------------------------------------------------ loading

def work_loading(toy):
    "A trained network from disk."
    net = our_network(toy).net
    folder = Path(tempfile.mkdtemp())
    save_file(net.state_dict(), folder/'ours.safetensors')
    def ours():
        fresh = type(net)(net.cfg)
        fresh.load_state_dict(load_file(folder/'ours.safetensors'))
        return fresh.eval()
    torch.save(net.state_dict(), folder/'pickled.pt')
    def pickled():
        fresh = type(net)(net.cfg)
        fresh.load_state_dict(torch.load(folder/'pickled.pt'))
        return fresh.eval()
    arms = {OURS: Arm(ours), 'torch.load': Arm(pickled, torch.__version__)}
    if find_spec('diffusers'):
        _, model = diffusers_step(toy, 1)
        model.save_pretrained(folder/'diffusers')
        arms['diffusers'] = Arm(partial(type(model).from_pretrained, folder/'diffusers'),
                                peers.version_of('diffusers'))
    def check():
        x, t = torch.rand(2, net.cfg.channels, net.cfg.size, net.cfg.size), torch.tensor([1, 900])
        with torch.no_grad():
            for f in (ours, pickled): assert torch.equal(f()(x, t), net(x, t))
        return {}
    yield Work('loading a network', arms, OURS, None, check)

def work_imports(toy):
    "A fresh process that imports what a sweep needs."
    if toy: return
    modules = {OURS: 'diffcirc.denoiser.sites', 'torch alone': 'torch', 'nnsight': 'nnsight',
               'pyvene': 'pyvene', 'captum': 'captum.attr',
               'transformer-lens': 'transformer_lens.hook_points', 'diffusers': 'diffusers.models'}
    def starting(module):
        return partial(subprocess.run, [sys.executable, '-c', f'import {module}'], check=True,
                       capture_output=True)
    arms = {n: Arm(starting(m), peers.version_of(n) or torch.__version__, unwatched=True)
            for n, m in modules.items() if find_spec(m.partition('.')[0])}
    arms[OURS].version = None
    yield Work('import in a fresh process', arms, OURS, rounds=2)

# ------------------------------------------------------------------ the machine

def work_machine(toy):
    "What the machine can do at best: products, a convolution, a copy."
    n, image = (256, 16) if toy else (2048, 32)
    a, b = torch.randn(2, n, n)
    half_a, half_b, x = a.bfloat16(), b.bfloat16(), torch.randn(32, 64, image, image)
    w, long = torch.randn(64, 64, 3, 3), torch.randn(2**20 if toy else 2**26)
    x, w = (v.to(memory_format=torch.channels_last) for v in (x, w))
    arms = {'product, float32': Arm(within(tuned, torch.mm, a, b)),
            'product, bfloat16': Arm(within(tuned, torch.mm, half_a, half_b)),
            'convolution, float32': Arm(within(tuned, partial(F.conv2d, x, w, padding=1))),
            'copy': Arm(long.clone, note=f'{2*long.nbytes/1e9:.6f} GB read and written')}
    for arm in arms.values(): arm.version = torch.__version__
    yield Work('the machine', arms, 'product, float32')

# ------------------------------------------------------------------ how it grows

def growth(toy, busy):
    "Seconds and memory of our sweep, training step and entropy over one size at a time."
    rows, cfg = [], UNetConfig.from_preset(preset('smoke' if toy else 'cpu'))
    def point(task, axis, value, run, rounds=3):
        memory, gflop = counted(run)
        seconds, others = in_turn(dict(one=Arm(run)), rounds)['one']
        rows.append(dict(task=task, axis=axis, value=value, median_s=median(seconds),
                         min_s=min(seconds), max_s=max(seconds), peak_mib=memory, gflop=gflop or float('nan'),
                         hardware=hardware(), date=time.strftime('%Y-%m-%d'),
                         busy='yes' if busy or others > OTHERS else 'no', others=others))
        print(f"{task:14} {axis:12} {value:10} {median(seconds):8.3f} s {memory:8.1f} MiB", flush=True)

    def swept(cfg=cfg, images=16, times=1, some=None):
        den = untrained(cfg).to(memory_format=torch.channels_last)
        names = list(sites(den.net))
        names = [names[i*len(names)//some] for i in range(some)] if some else names
        exam = an_exam(images, tuple(100 + 100*i for i in range(times)), cfg.size, cfg.channels)
        return within(tuned, sweep, den, exam, names)
    half = toy
    for n in (4, 8) if half else (8, 16, 32, 64): point('sweep', 'images', n, swept(images=n))
    for n in (1, 2) if half else (1, 2, 4, 8): point('sweep', 'timesteps', n, swept(times=n))
    for n in (1, 2) if half else (1, 2, 4, 8): point('sweep', 'sites', n, swept(images=32, some=n))
    for n in (16, 32) if half else (16, 32, 64):
        point('sweep', 'resolution', n, swept(replace(cfg, size=n), 8))
    for base in (8, 16) if half else (8, 16, 32, 64):
        c = replace(cfg, base=base, width=4*base)
        point('sweep', 'parameters', n_params(untrained(c).net), swept(c, 8))
    for base in (8, 16) if half else (8, 16, 32, 64):
        tr = Trainer(torch.rand(32, 3, cfg.size, cfg.size)*2 - 1, replace(
            TrainConfig.from_preset(preset('smoke' if toy else 'cpu')), batch=8, muon=0., pull=0.,
            net=replace(cfg, base=base, width=4*base)), Crew('cpu'))
        point('training step', 'parameters', n_params(tr.net), _grad(tr.step))
    for n in (16, 64) if half else (256, 1024, 4096):
        q, k = torch.randn(2, 1, 8, n, 32)
        point('entropy', 'positions', n, within(as_shipped, ours_of, q, k))
        point('entropy, stored map', 'positions', n, within(as_shipped, stored, q, k, False))
    return rows

# ------------------------------------------------------------------ all of it

WORKS = dict(machine=work_machine, sweep=work_sweep, foreign=work_foreign, attention=work_attention,
             training=work_training, loading=work_loading, imports=work_imports)

def run(toy=False, only=None, busy=False, rounds=None):
    "Rows of every work."
    torch.set_num_threads(cores())
    rows = []
    for name, works in WORKS.items():
        if only and name not in only: continue
        for work in works(toy):
            if toy or rounds: work.rounds = rounds or 1
            rows += measured(work, busy)
    return rows

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument('--toy', action='store_true', help='small sizes')
    p.add_argument('--only', nargs='*', choices=[*WORKS, 'scaling'], help='these works alone')
    p.add_argument('--out', default=HERE, type=Path, help='folder of the tables')
    p.add_argument('--rounds', type=int, help='rounds of each work')
    p.add_argument('--refuse', action='store_true', help='stop where the machine is busy')
    a = p.parse_args(argv)
    load = os.getloadavg()[0]/cores()
    busy = load > LOAD
    print(f'{hardware()}; load average per core {load:.2f}' + (', busy' if busy else ''))
    if busy and a.refuse: sys.exit(f'The machine is busy: {load:.2f} per core, {LOAD} at most.')
    a.out.mkdir(parents=True, exist_ok=True)
    began, rows = time.perf_counter(), run(a.toy, a.only, busy, a.rounds)
    if rows: pd.DataFrame(rows).round(6).to_csv(a.out/'results.csv', index=False)
    if not a.only or 'training' in a.only:
        profiled(a.toy).round(3).to_csv(a.out/'profile.csv', index=False)
    if not a.only or 'scaling' in a.only:
        pd.DataFrame(growth(a.toy, busy)).round(6).to_csv(a.out/'scaling.csv', index=False)
    print(f'{time.perf_counter() - began:.0f} s')

if __name__ == '__main__': main()
