"""`make fuzz`: the whole campaign, and its table for the page on reproduction. With arguments, only
these parts, and no table; `functions` with names of modules after it, only these."""
import argparse, multiprocessing, os, sys, tempfile, time
from pathlib import Path
os.environ |= dict(IN_TEST='1', DIFFCIRC_PRESET='smoke', HF_HUB_OFFLINE='1', PYTHONWARNINGS='ignore')
os.environ.setdefault('OMP_NUM_THREADS', '1')
import pandas as pd, torch
from joblib import Parallel, cpu_count, delayed
from . import files, functions, inputs, kills, writes
from .outcomes import TRACEBACK, Campaign

MANY = dict(tables=900, records=1000, json=1200, runs=180, old=60, checkpoints=120, faces=1200,
            critics=40, made_once=200, texts=300, images=150, parquet=200, commands=60,
            sizes=60, full_homes=24, trainings=45, ranks=20, executions=20, renderings=20)
ALL = {**files.ALL, **inputs.ALL, **writes.ALL, **kills.ALL}
TABLE = Path(__file__).resolve().parents[2]/'benchmarks'/'faults.csv'

def one_part(part, share, seed) -> tuple:
    "One part of the campaign: what was counted, and how long it took."
    campaign, began = Campaign(), time.monotonic()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as d:
        try: ALL[part](campaign, d, few(MANY.get(part, 1), share))
        except Exception as e: campaign.note(part, TRACEBACK, f'the campaign itself: {e!r}')
    return campaign, f'{part}: {time.monotonic() - began:.0f} s'

def one_module(module, share, seed) -> tuple:
    "The public functions of a module: what was counted, and how many there are."
    import torch._dynamo  # noqa: F401 or a call that is stopped leaves half of it
    campaign, began = Campaign(), time.monotonic()
    torch.set_num_threads(1)
    tried = functions.functions(campaign, module, few(12, share), 60, functions.known_faults(),
                                seed)
    left = [n for n in functions.public(module) if n not in tried and n not in functions.LEFT_OUT]
    return campaign, (f'{module}: {time.monotonic() - began:.0f} s, {len(tried)} functions'
                      + f", not tried: {', '.join(left)}"*bool(left))

def apart(task, name, *given) -> tuple:
    "A task in a process of its own: one that dies is a fault of its own, and takes no other along."
    fork = multiprocessing.get_context('fork')
    here, there = fork.Pipe(False)
    process = fork.Process(target=lambda: there.send(task(name, *given)))
    process.start()
    there.close()
    try: found = here.recv()
    except EOFError:
        process.join()
        campaign, end = Campaign(), f'{name}: the process ended with {process.exitcode}'
        campaign.note(name, TRACEBACK, end)
        found = campaign, end
    process.join()
    return found

def _numbered(k, task, *given): return k, *apart(task, *given)

def few(n, share): return max(1, round(share*n))

def run(parts, modules, share=1., jobs=1, seed=0) -> Campaign:
    """The campaign over some parts and the public functions of some modules, with this share of the
    cases of each, in so many processes; those that last longest begin. `seed` of the functions'
    cases."""
    first = ['ranks', 'renderings', 'executions', 'trainings']
    parts = sorted(parts, key=lambda p: first.index(p) if p in first else len(first))
    tasks = [(one_part, p, share, seed) for p in parts]
    tasks += [(one_module, m, share, seed) for m in modules]
    numbered = [delayed(_numbered)(k, *task) for k, task in enumerate(tasks)]
    done = {}
    for k, found, said in Parallel(jobs, return_as='generator_unordered', batch_size=1)(numbered):
        print(f'{said}, {len(found.faults)} faults', flush=True)
        for fault in found.faults: print(*fault, sep=' | ', flush=True)
        done[k] = found
    campaign = Campaign()
    for k in sorted(done): campaign.add(done[k])
    return campaign

def main(arguments=None):
    "Run what is asked for; exit status 1 where something went wrong."
    parser = argparse.ArgumentParser('python -m tests.fuzz', description=__doc__)
    parser.add_argument('parts', nargs='*', metavar='PART', help=', '.join([*ALL, 'functions']))
    parser.add_argument('--share', type=float, default=1., help='of the cases of every part')
    parser.add_argument('--jobs', type=int, default=cpu_count(), help='processes at a time')
    parser.add_argument('--seed', type=int, default=0, help="of the functions' cases; another one "
                        'tries what no fault was mended for')
    given = parser.parse_args(arguments)
    asked = given.parts
    parts = [a for a in asked if a in ALL] if asked else list(ALL)
    modules = functions.modules() if not asked or asked[-1] == 'functions' else \
        [f'diffcirc.{a}' for a in asked[asked.index('functions') + 1:]] if 'functions' in asked else []
    campaign = run(parts, modules, given.share, given.jobs, given.seed)
    table = pd.DataFrame(campaign.rows())
    print(table.to_string(index=False))
    if not asked and given.share == 1 and not given.seed: table.to_csv(TABLE, index=False)
    return bool(campaign.faults)

if __name__ == '__main__': sys.exit(main())
