"""Train one network with changes to the recipe and add a line to training_trials.csv beside this
file: what it has learned beyond the linear filter and how much its transformer layers bear.

    python benchmarks/training_trials.py NAME 'what was changed' '{"width": 256}' '{"muon": false}'

The last two arguments change fields of UNetConfig and of TrainConfig of the preset in force. Behind
them may stand the faces, the seed, and what takes the place of a part of the training that has no
field: '{"optimizer": "soap"}' (in place of Muon; needs pytorch_optimizer), '{"schedule": "linear"}'
(or "constant", "trapezoid": the rate after the warm-up)."""
import json, os, sys, time
from dataclasses import replace
from pathlib import Path
os.environ.setdefault('OMP_NUM_THREADS', '1')
import pandas as pd, torch
from diffcirc.circuits.ablation import ablate, impacts
from diffcirc.core import preset
from diffcirc.denoiser.diffusion import Denoiser, make_exam
from diffcirc.denoiser.readers import prediction_errors
from diffcirc.denoiser import training
from diffcirc.denoiser.linear import fit_linear
from diffcirc.denoiser.training import Crew, TrainConfig, Trainer, keep_big_buffers
from diffcirc.faces.matching import study_faces

FILE = Path(__file__).with_name('training_trials.csv')

# the share of the rate that is left when this share of the steps behind the warm-up is done
SCHEDULES = dict(linear=lambda done: 1 - done, constant=lambda done: 1.,
                 trapezoid=lambda done: min(1., (1 - done)/.2))

def with_schedule(name):
    "Training with another course of the learning rate."
    usual = training.learning_rate
    def rate(cfg, k):
        done = (k - cfg.warmup)/max(1, cfg.steps - cfg.warmup)
        return usual(cfg, k) if k < cfg.warmup else cfg.lr*SCHEDULES[name](done)
    training.learning_rate = rate

def with_soap(tr):
    "SOAP (Vyas et al. 2024) in place of Muon, on the same matrices with the same relative rates."
    from pytorch_optimizer import SOAP
    groups = [dict(params=g['params'], relative=g['relative'])
              for g in tr.optimizers[1].param_groups]
    tr.optimizers[1] = SOAP(groups, lr=tr.cfg.lr, betas=(.95, .95), weight_decay=.01,
                            precondition_frequency=10, max_precondition_dim=256)

def trained(train, cfg, optimizer='', schedule=''):
    "The averaged network after all steps, and the processor seconds it took."
    if optimizer not in ('', 'soap') or schedule not in ('', *SCHEDULES):
        raise ValueError(f'There is no optimizer {optimizer!r} or no schedule {schedule!r}.')
    torch.set_num_threads(1)
    keep_big_buffers()
    if schedule: with_schedule(schedule)
    tr, began = Trainer(train.images, cfg, Crew('cpu')), time.process_time()
    if optimizer == 'soap': with_soap(tr)
    while tr.k < cfg.steps: tr.step()
    seconds = time.process_time() - began
    with torch.no_grad():
        for name, p in tr.net.named_parameters(): p.copy_(tr.average[name])
    return Denoiser(tr.net.eval().requires_grad_(False)), seconds

def judged(denoiser, train, exam) -> dict:
    "Skill at each timestep, and the largest impact over timesteps of mean-ablating each layer."
    ours, linear = (prediction_errors(d, exam).groupby('timestep').mse.mean()
                    for d in (denoiser, fit_linear(train.images)))
    layers = ablate(denoiser, exam, ('layer',), ('mean',)).assign(dataset='', seed=0)
    load = impacts(layers).groupby('site', sort=False).impact.max()
    return ({f'skill_{t}': v for t, v in (1 - ours/linear).items()}
            | {f'load_{n}': v for n, v in zip(('encoder', 'middle', 'decoder'), load)})

def main(name, change, net='{}', train='{}', faces='natural', seed='0', instead='{}'):
    p, seed = preset(), int(seed)
    heldout, samples = study_faces(p)
    images, exam = samples[faces, seed], make_exam(heldout[faces].images, p.timesteps)
    cfg = TrainConfig.from_preset(p, images.images.shape[1], seed)
    cfg = replace(cfg, net=replace(cfg.net, **json.loads(net)), log_every=10**9,
                  **json.loads(train))
    denoiser, seconds = trained(images, cfg, **json.loads(instead))
    row = dict(trial=name, change=change, faces=images.name, seed=seed,
               parameters_M=sum(q.numel() for q in denoiser.parameters())/1e6,
               images=cfg.steps*cfg.batch, core_seconds=seconds, **judged(denoiser, images, exam))
    old = pd.read_csv(FILE) if FILE.exists() else pd.DataFrame()
    pd.concat([old, pd.DataFrame([row]).round(4)]).to_csv(FILE, index=False)
    print(row)

if __name__ == '__main__': main(*sys.argv[1:])
