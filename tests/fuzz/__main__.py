"""`make fuzz`: the whole campaign, and its table for the page on reproduction. With arguments, only
these parts, and no table; `functions` with names of modules after it, only these."""
import os, sys, tempfile, time
from pathlib import Path
os.environ |= dict(IN_TEST='1', DIFFCIRC_PRESET='smoke', HF_HUB_OFFLINE='1', PYTHONWARNINGS='ignore')
os.environ.setdefault('OMP_NUM_THREADS', '1')
import pandas as pd, torch
from . import files, functions, inputs, kills, writes
from .outcomes import TRACEBACK, Campaign

MANY = dict(tables=900, records=1000, json=1200, runs=180, old=60, checkpoints=120, faces=1200,
            critics=40, texts=300, images=150, parquet=200, commands=60, sizes=60, trainings=45,
            executions=20)
ALL = {**files.ALL, **inputs.ALL, **writes.ALL, **kills.ALL}
TABLE = Path(__file__).resolve().parents[2]/'benchmarks'/'faults.csv'

def run(parts, modules, n=12) -> Campaign:
    "The campaign over some parts and the public functions of some modules."
    campaign, known = Campaign(), functions.known_faults()
    for part in parts:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as d:
            try: ALL[part](campaign, d, MANY.get(part, 1))
            except Exception as e: campaign.note(part, TRACEBACK, f'the campaign itself: {e!r}')
        print(f'{part}: {time.monotonic() - began:.0f} s, {len(campaign.faults)} faults', flush=True)
    for m in modules:
        called = functions.functions(campaign, m, n, 60, known)
        print(f'{m}: {len(called)} of {len(functions.public(m))} functions', flush=True)
    return campaign

def main(asked):
    "Run what is asked for; exit status 1 where something went wrong."
    torch.set_num_threads(1)
    parts = [a for a in asked if a in ALL] if asked else list(ALL)
    modules = functions.modules() if not asked or asked[-1] == 'functions' else \
        [f'diffcirc.{a}' for a in asked[asked.index('functions') + 1:]] if 'functions' in asked else []
    campaign = run(parts, modules)
    table = pd.DataFrame(campaign.rows())
    print(table.to_string(index=False))
    for fault in campaign.faults: print(*fault, sep=' | ')
    if not asked: table.to_csv(TABLE, index=False)
    return bool(campaign.faults)

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
