"""What measuring costs beside an earlier commit: python benchmarks/measuring.py [FILE]. The tables that
the book of e41ad75 had, and this one still measures on as many images and timesteps, are asked of the
first and the last network of the study by both, each on a core of its own, at the preset `cpu` with
networks trained for 30 steps: what a network has learned does not change what it costs. Seconds of the
processor per table and network go to benchmarks/measuring.csv, and in a line without timesteps those
that training a network takes, from the time of 60 steps (`measuring.py --training` times that line
alone). Both need the faces of the home
in force or download them; that earlier source is taken from the history of this repository."""
import dataclasses, io, json, os, subprocess, sys, tarfile, tempfile, time
from datetime import date
from pathlib import Path
ROOT, BEFORE, MARK = Path(__file__).resolve().parents[1], 'e41ad75', 'timed: '
# {table: (instrument at e41ad75, images, timesteps, whether of trained networks)}
SAME = {'errors': ('answer', 100, 4, True), 'errors, untrained': ('answer', 100, 4, False),
        'errors over time': ('answer', 16, 20, True), 'drawn': ('drawn', 100, 4, True),
        'attention': ('attention_stats', 100, 4, True),
        'attention, untrained': ('attention_stats', 100, 4, False),
        'attention over time': ('attention_stats', 16, 20, True),
        'head functions': ('head_functions', 100, 4, True),
        'head functions, untrained': ('head_functions', 100, 4, False),
        'head impacts': ('head_importance', 100, 4, True),
        'features': ('feature_stats', 100, 4, True), 'interaction': ('interaction', 100, 1, True),
        'interaction, untrained': ('interaction', 100, 1, False),
        'information flow': ('information_flow', 100, 4, True),
        'information flow, untrained': ('information_flow', 100, 4, False),
        'information flow over time': ('information_flow', 50, 10, True),
        'layer impacts': ('ablate', 100, 4, True), 'layer impacts, untrained': ('ablate', 6, 4, False),
        'routes': ('routes', 16, 1, True), 'edited samples': ('edited_samples', 2, 1, True),
        'impacts over time': ('component_impacts', 8, 20, True),
        'impacts over time, other noise': ('component_impacts', 8, 4, True),
        'pairs': ('cooperation', 8, 1, True), 'similarity': ('gram', 50, 1, True),
        'exchanged parts': ('stitch', 16, 1, True),
        'transferred probes': ('probe_transfer', 4, 1, True),
        'transferred probes, untrained': ('probe_transfer', 4, 1, False)}

TRAINING = 'a training'  # the line on it

def training(core, name) -> tuple:
    "(seconds that training one network takes, images that it sees, networks of the study)."
    import torch
    if name == 'before': from diffcirc import training as of
    else: from diffcirc.denoiser import training as of
    p = core.preset()
    of.keep_big_buffers()
    cfg = of.TrainConfig.from_preset(p, 3, 0)
    faces = torch.rand(p.n_train, 3, p.size, p.size, generator=torch.Generator().manual_seed(0))
    tr = of.Trainer(2*faces - 1, cfg, of.Crew('cpu'))
    for _ in range(10): tr.step()
    began = time.process_time()
    for _ in range(60): tr.step()
    return (time.process_time() - began)/60*cfg.steps, cfg.steps*cfg.batch, 2*p.seeds

def jobs_before(core):
    "{(instrument, images, timesteps, trained): jobs} of the earlier source."
    from diffcirc import ablation, attention, features, information, models, temporal, transfer
    core.PRESETS['cpu'] = dataclasses.replace(core.PRESETS['cpu'], steps=30)
    st, out = models.study(), {}
    for chapter in (models, attention, features, information, ablation, temporal, transfer):
        for j in chapter.plan(st):
            trained = not isinstance(j.model, tuple)
            out.setdefault((j.instrument.__name__, len(j.exam), len(j.exam.timesteps), trained),
                           []).append(j)
    return out

def jobs_now(core):
    "{table: jobs} of this source."
    from diffcirc.book.asking import jobs_of
    from diffcirc.book.protocols import protocols
    from diffcirc.study.models import study
    core.PRESETS['cpu'] = dataclasses.replace(core.PRESETS['cpu'], steps=30, growth=())
    st = study()
    known = protocols(st)
    return {name: [j for _, j in jobs_of(known[name], st)] for name in SAME}

def each_alone(found) -> dict:
    "{table: seconds of one network}: the first and the last, every table by itself."
    took = {}
    for table, key in SAME.items():
        began = time.process_time()
        for j in (found[key][0], found[key][-1]): j.table()
        took[table] = (time.process_time() - began)/2
    return took

def together(found) -> dict:
    "The same, tables that look at the same passes in one; what they take is shared out equally."
    from diffcirc.study.jobs import _compute_group, together
    took = dict.fromkeys(SAME, 0.)
    for k in (0, -1):
        table_of = {id(found[t][k]): t for t in SAME}
        for group in together([found[t][k] for t in SAME]):
            began = time.process_time()
            _compute_group(group)
            each = (time.process_time() - began)/len(group)/2
            for j in group: took[table_of[id(j)]] += each
    return took

def arm(name, core_of_machine, only=''):
    """Time a training and both jobs of every table in this process, on one core, and print a line for
    each: [table, seconds, networks, images, timesteps]."""
    if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, {core_of_machine})
    import torch
    from diffcirc import core
    torch.set_num_threads(1)
    seconds, images, networks = training(core, name)
    print(MARK + json.dumps([TRAINING, seconds, networks, images, 0]), flush=True)
    if only: return
    found = jobs_before(core) if name == 'before' else jobs_now(core)
    for table, key in SAME.items():
        exam = found[key if name == 'before' else table][0].exam
        assert (len(exam), len(exam.timesteps)) == key[1:3], table
    took = each_alone(found) if name == 'before' else together(found)
    for table, key in SAME.items():
        jobs = found[key if name == 'before' else table]
        print(MARK + json.dumps([table, took[table], len(jobs), *key[1:3]]), flush=True)

def started(name, source, i, *only):
    "The process of one arm, whose home is beside its source."
    home, env = source.parent/f'home_{name}', dict(os.environ)
    home.mkdir()
    env |= dict(DIFFCIRC_HOME=str(home), DIFFCIRC_PRESET='cpu', PYTHONPATH=str(source),
                OMP_NUM_THREADS='1', DIFFCIRC_WORKERS='1')
    return subprocess.Popen([sys.executable, __file__, 'arm', name, str(i), *only], env=env, cwd=source,
                            stdout=subprocess.PIPE, text=True)

def both(folder, *only) -> dict:
    "{arm: {table: (seconds of one network, networks, images, timesteps)}}, measured side by side."
    earlier = folder/'before'
    packed = subprocess.run(['git', '-C', str(ROOT), 'archive', BEFORE], capture_output=True,
                            check=True).stdout
    tarfile.open(fileobj=io.BytesIO(packed)).extractall(earlier, filter='data')
    now = folder/'now'
    now.mkdir()
    (now/'diffcirc').symlink_to(ROOT/'diffcirc')
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else [0, 1]
    at_work = {n: started(n, s, cores[i % len(cores)], *only)
               for i, (n, s) in enumerate((('before', earlier), ('now', now)))}
    out = {n: {} for n in at_work}
    for n, p in at_work.items():
        for line in p.stdout:
            if line.startswith(MARK):
                table, *about = json.loads(line[len(MARK):])
                out[n][table] = about
        if p.wait(): raise SystemExit(f'The arm {n!r} ended with status {p.returncode}.')
    return out

def main(*only):
    import pandas as pd
    from diffcirc.core import atomic_write, environment
    file = ROOT/'benchmarks'/'measuring.csv'
    with tempfile.TemporaryDirectory() as folder: found = both(Path(folder), *only)
    on = f"{environment()['machine']}, {os.cpu_count()} cores"
    rows = pd.DataFrame([dict(table=t, images=n, timesteps=times, networks=networks,
                              before_s=found['before'][t][0], now_s=seconds,
                              before=BEFORE, hardware=on, date=str(date.today()))
                         for t, (seconds, networks, n, times) in found['now'].items()])
    kept = pd.read_csv(file) if only else rows[:0]
    rows = pd.concat([kept[~kept.table.isin(rows.table)], rows], ignore_index=True)
    atomic_write(file, rows.round(dict(before_s=3, now_s=3)).to_csv(index=False))

if __name__ == '__main__':
    if sys.argv[1:2] == ['arm']: arm(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
    else: main(*sys.argv[1:2])
