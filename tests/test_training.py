"""Training across processes: killed and resumed, shared by two, damaged caches, two callers of one
run."""
import json, os, signal, socket, subprocess, sys
from pathlib import Path
import pandas as pd, pytest, torch
from safetensors.torch import load_file
from diffcirc.denoiser.training import (
    Crew, TrainConfig, Trainer, _go_on, _moments, save_state)
from diffcirc.denoiser.unet import UNetConfig

JOB = '''
import os, sys, torch, numpy as np, pandas as pd
torch.set_num_threads(1)
from diffcirc.faces.data import FaceSet, ATTRIBUTES
from diffcirc.denoiser.training import TrainConfig, train
from diffcirc.denoiser.unet import UNetConfig
def faces(n=48):
    x = torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(0))*2 - 1
    attributes = pd.DataFrame(np.nan, index=range(n), columns=list(ATTRIBUTES))
    return FaceSet('synthetic', x, attributes, np.arange(n))
cfg = TrainConfig(UNetConfig(16, 1, 8, (1, 2), temb=16, width=32), steps=int(sys.argv[1]),
                  batch=16, warmup=2, log_every=1)
if __name__ == '__main__':
    done = []
    def report(n, loss):
        done.append(loss)
        if len(done) == 15: print('fifteen', flush=True)
    run = train(faces(), cfg, 'cpu', report, checkpoint_s=0.)
    if run and os.environ.get('RANK', '0') == '0': print(run.folder, flush=True)
'''

@pytest.fixture
def job(tmp_path):
    (tmp_path/'job.py').write_text(JOB)
    def start(home, steps=60, launcher=(), **kw):
        env = {**os.environ, 'DIFFCIRC_HOME': str(tmp_path/home), 'OMP_NUM_THREADS': '1',
               'CUDA_VISIBLE_DEVICES': ''}
        command = [sys.executable, *launcher, str(tmp_path/'job.py'), str(steps)]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, **kw)
    return start

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def killed(proc):
    "Kill a training after its fifteenth step."
    assert proc.stdout.readline().strip() == 'fifteen'
    proc.send_signal(signal.SIGKILL)
    proc.communicate()

def weights(folder): return load_file(folder/'model.safetensors')

def folder(proc, timeout=200):
    out, err = proc.communicate(timeout=timeout)
    assert proc.returncode == 0, err[-3000:]
    return Path(out.strip().splitlines()[-1])

def test_killed_and_resumed_ends_with_the_same_weights(job):
    whole = folder(job('whole'))
    killed(job('killed'))
    resumed = folder(job('killed'))
    assert resumed.name == whole.name
    a, b = weights(whole), weights(resumed)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert (whole/'record.parquet').read_bytes() == (resumed/'record.parquet').read_bytes()
    assert not (resumed/'checkpoint.safetensors').exists()

def test_a_long_training_goes_on(tmp_path):
    "The square of a step beyond 4,096 has no exact float32."
    cfg = TrainConfig(UNetConfig(16, 1, 8, (1, 2), temb=16, width=32), steps=4098, batch=4)
    old, new = (Trainer(torch.rand(8, 1, 16, 16), cfg, Crew('cpu')) for _ in range(2))
    old.step()  # the optimizer has a state from here on
    old.k, told = 4097, []
    for own in _moments(old).values():
        if 'step' in own: own['step'].fill_(4097)
    save_state(old, tmp_path/'checkpoint.safetensors', 1.)
    assert _go_on(new, tmp_path, lambda n, _: told.append(n), 1e9) >= 1. and new.k == 4098
    assert told == [4097*4, 4]  # gone on with, not begun anew

def test_a_damaged_checkpoint_is_reported_and_training_starts_over(job, tmp_path):
    killed(job('broken'))
    for file in (tmp_path/'broken').rglob('checkpoint*.safetensors'):  # and the one before
        raw = bytearray(file.read_bytes())
        raw[-100] ^= 255
        file.write_bytes(raw)
    proc = job('broken')
    out, err = proc.communicate(timeout=200)
    assert proc.returncode == 0 and 'checksum' in err and 'starts over' in err
    a, b = weights(folder(job('fresh'))), weights(Path(out.strip().splitlines()[-1]))
    assert all(torch.equal(a[k], b[k]) for k in a)

def test_two_callers_of_one_run_train_once(job):
    both = [job('shared', 40), job('shared', 40)]
    outs = [p.communicate(timeout=200)[0] for p in both]
    # the second found the first one's run
    assert sorted('fifteen' in o for o in outs) == [False, True]
    assert len({o.strip().splitlines()[-1] for o in outs}) == 1

def test_two_accelerate_processes_give_the_losses_of_one(job):
    pytest.importorskip('accelerate')
    # --multi_gpu is Accelerate's word for one process per rank; without a GPU the ranks use the CPU
    launcher = ('-m', 'accelerate.commands.launch', '--multi_gpu', '--num_processes', '2',
                '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no',
                '--main_process_port', str(free_port()))
    one, two = folder(job('one', 30)), folder(job('two', 30, launcher))
    assert json.loads((two/'run.json').read_text())['processes'] == 2
    a, b = (pd.read_parquet(f/'record.parquet') for f in (one, two))
    assert (a.step == b.step).all()
    exact = json.loads((one/'run.json').read_text())['precision'] == 'None'
    difference = abs(a.loss - b.loss).max()
    assert difference < (1e-4 if exact else 5e-3), difference
    assert a.loss.iloc[-5:].mean() < a.loss.iloc[:5].mean()
