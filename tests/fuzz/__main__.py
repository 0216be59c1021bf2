"""`make fuzz`: the whole campaign, and its table for the page on reproduction. With arguments, only
these parts, and no table; `functions` with names of modules after it, only these."""
import argparse, os, sys, tempfile, time
from pathlib import Path
os.environ |= dict(IN_TEST='1', DIFFCIRC_PRESET='smoke', HF_HUB_OFFLINE='1', PYTHONWARNINGS='ignore')
os.environ.setdefault('OMP_NUM_THREADS', '1')
import pandas as pd, torch
from . import files, functions, inputs, kills, writes
from .outcomes import TRACEBACK, Campaign

MANY = dict(tables=900, records=1000, json=1200, runs=180, old=60, checkpoints=120, faces=1200,
            critics=40, texts=300, images=150, parquet=200, commands=60, sizes=60, trainings=45,
            ranks=20, executions=20, renderings=20)
ALL = {**files.ALL, **inputs.ALL, **writes.ALL, **kills.ALL}
TABLE = Path(__file__).resolve().parents[2]/'benchmarks'/'faults.csv'

def run(parts, modules, share=1.) -> Campaign:
    """The campaign over some parts and the public functions of some modules, with this share of the
    cases of each."""
    campaign, known = Campaign(), functions.known_faults()
    if modules: import torch._dynamo  # noqa: F401 or a call that is stopped leaves half of it
    def few(n): return max(1, round(share*n))
    for part in parts:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as d:
            try: ALL[part](campaign, d, few(MANY.get(part, 1)))
            except Exception as e: campaign.note(part, TRACEBACK, f'the campaign itself: {e!r}')
        print(f'{part}: {time.monotonic() - began:.0f} s, {len(campaign.faults)} faults', flush=True)
    for m in modules:
        called = functions.functions(campaign, m, few(12), 60, known)
        print(f'{m}: {len(called)} of {len(functions.public(m))} functions', flush=True)
    return campaign

def main(arguments=None):
    "Run what is asked for; exit status 1 where something went wrong."
    parser = argparse.ArgumentParser('python -m tests.fuzz', description=__doc__)
    parser.add_argument('parts', nargs='*', metavar='PART', help=', '.join([*ALL, 'functions']))
    parser.add_argument('--share', type=float, default=1., help='of the cases of every part')
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    asked = given.parts
    parts = [a for a in asked if a in ALL] if asked else list(ALL)
    modules = functions.modules() if not asked or asked[-1] == 'functions' else \
        [f'diffcirc.{a}' for a in asked[asked.index('functions') + 1:]] if 'functions' in asked else []
    campaign = run(parts, modules, given.share)
    table = pd.DataFrame(campaign.rows())
    print(table.to_string(index=False))
    for fault in campaign.faults: print(*fault, sep=' | ')
    if not asked and given.share == 1: table.to_csv(TABLE, index=False)
    return bool(campaign.faults)

if __name__ == '__main__': sys.exit(main())
