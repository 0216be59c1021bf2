"""What the checks cost: python benchmarks/guards.py [FILE]. Every chapter's tables are measured anew,
of the first model of each dataset, and every page's cells are run, at the preset and with the home in
force (`diffcirc prepare` first), while a clock runs in each check of an argument (`diffcirc.doors`) and
in the checksum of each table that is written or read; the time of the clock itself is taken off. One row
per page, with the start of its kernel, and per group of tables goes to benchmarks/guards.csv: the page
(`chapter`) they are shown on, seconds of the processor, those within checks, their share."""
import functools, importlib, inspect, io, json, os, pkgutil, re, resource, subprocess, sys, time, types
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from pathlib import Path
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault('OMP_NUM_THREADS', '1')
import matplotlib
matplotlib.use('agg')
import matplotlib.pyplot as plt
import pandas as pd, torch, yaml
import diffcirc
from diffcirc import core, doors
from diffcirc.book.protocols import CHAPTERS, COMPUTED, SIMULATED
from diffcirc.book.asking import jobs_of
from diffcirc.core import atomic_write, environment, preset
from diffcirc.study.models import study
from tests.fuzz.outcomes import quiet

class Clock:
    "Seconds and calls within checks; one that calls another is counted once."
    def __init__(self): self.seconds, self.calls, self.within, self.by = 0., 0, False, Counter()

    def timed(self, f):
        @functools.wraps(f)
        def call(*args, **kwargs):
            if self.within: return f(*args, **kwargs)
            self.within, began = True, time.process_time()
            try: return f(*args, **kwargs)
            finally:
                took = time.process_time() - began
                self.seconds += took
                self.by[f.__name__, sys._getframe(1).f_code.co_name] += took
                self.calls, self.within = self.calls + 1, False
        return call

def of_clock(n=20_000) -> tuple:
    "Seconds that the clock itself adds to a call: those that it counts, and all."
    clock = Clock()
    nothing, began = clock.timed(lambda: None), time.process_time()
    for _ in range(n): nothing()
    return clock.seconds/n, (time.process_time() - began)/n

def stand_beside(clock):
    "Put the clock into every check, wherever it has been imported."
    names = [m.name for m in pkgutil.walk_packages(diffcirc.__path__, 'diffcirc.') if not m.ispkg]
    modules = [importlib.import_module(n) for n in names]
    checks = [getattr(doors, n) for n in doors.__all__] + [core._digest]
    timed = {f: clock.timed(f) for f in checks}
    for m in modules:
        for n, f in list(vars(m).items()):
            if inspect.isfunction(f) and f in timed: setattr(m, n, timed[f])

def asked_first(jobs) -> list:
    "The first job of each instrument and dataset."
    first = {}
    for j in jobs: first.setdefault((j.instrument, getattr(j, 'dataset', '')), j)
    return list(first.values())

def measure(jobs):
    "What `table` does for each job, but for the file."
    for j in jobs:
        with quiet(): found = getattr(j, '_measure', getattr(j, '_compute', None))()
        core.unsealed(core.sealed(found))

def run_page(file):
    "All cells of a notebook, in the folder where it stands; nothing is shown."
    sys.modules['page'] = module = types.ModuleType('page')  # where its checks replace functions
    space = vars(module)
    os.chdir(file.parent)
    for c in json.loads(file.read_text())['cells']:
        text = ''.join(c['source'])
        left_out = re.search(r'^([!%]|#\| *eval: *false)', text, re.M)
        if c['cell_type'] == 'code' and not left_out: exec(compile(text, str(file), 'exec'), space)
    plt.close('all')

def of_start() -> float:
    "Seconds of the processor for starting a page's kernel and importing the package."
    def spent(): return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    began = spent()
    subprocess.run([sys.executable, '-c', 'import ipykernel.kernelapp, diffcirc.book.protocols'],
                   cwd=ROOT, check=True)
    return spent() - began

def pages_of_book() -> dict:
    "{page: text of its notebook} in the order of the book."
    toc = yaml.safe_load((ROOT/'_toc.yml').read_text())
    pages = [s['file'] for part in toc['parts'] for c in part['chapters']
             for s in (c, *c.get('sections', []))]
    files = {page: (ROOT/page).with_suffix('.ipynb') for page in pages}
    return {page: file.read_text() for page, file in files.items() if file.exists()}

def shown_on(names, pages) -> str:
    "The page that asks for most of these tables, the first one of several."
    def asked(page): return sum(f"table('{n}'" in pages[page] for n in names)
    return max(pages, key=asked).removeprefix('nbs/')

def rows(st, clock, known=()):
    "One row per chapter whose tables are measured, and per page whose cells are run; None if `known`."
    (counted, clocked), start, pages = of_clock(), of_start(), pages_of_book()
    def row(kind, name, chapter, do, before=0.):
        if (kind, name) in known: return None
        calls, spent, began = clock.calls, clock.seconds, time.process_time()
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()): do()
        asked = clock.calls - calls
        checked = max(0., clock.seconds - spent - asked*counted)
        took = time.process_time() - began - asked*clocked + before
        most = ', '.join(f'{a} of {b} {s:.2f} s' for (a, b), s in clock.by.most_common(2))
        print(f'{kind} {name}: {took:.2f} s, {checked/took:.2%} within checks: {most}',
              file=sys.stderr)
        clock.by.clear()
        return dict(kind=kind, name=name, chapter=chapter, calls=asked, seconds=took,
                    within_checks=checked, share=checked/took)
    for chapter in CHAPTERS:
        asked = chapter(st)
        jobs = [j for p in asked.values() for _, j in jobs_of(p, st)]
        yield row('tables', chapter.__name__.removeprefix('of_'), shown_on(asked, pages),
                  lambda: measure(asked_first(jobs)))
    for name, make in (COMPUTED | SIMULATED).items():
        yield row('tables', name, shown_on([name], pages), lambda: measure(make(st)[:1]))
    for page in pages:
        name = page.removeprefix('nbs/')
        yield row('page', name, name, lambda: run_page((ROOT/page).with_suffix('.ipynb')), start)

def main(file=ROOT/'benchmarks'/'guards.csv'):
    """Every row is written when it is known, beside the table that the last row replaces; a run that
    was stopped today at this preset goes on from there."""
    torch.set_num_threads(1)
    part = Path(f'{file}.part')
    begun = pd.read_csv(part) if part.exists() else pd.DataFrame(columns=['preset', 'date'])
    same = (begun.preset == preset().name) & (begun.date.astype(str) == str(date.today()))
    found = begun[same].to_dict('records')
    st, clock, known = study(), Clock(), {(r['kind'], r['name']) for r in found}
    core.unsealed(core.sealed(pd.DataFrame(dict(a=[1.]))))  # what is imported at the first time
    stand_beside(clock)
    on = f"{environment()['machine']}, {os.cpu_count()} cores"
    for row in filter(None, rows(st, clock, known)):
        found.append(row | dict(preset=preset().name, hardware=on, date=date.today()))
        table = pd.DataFrame(found).round(dict(seconds=3, within_checks=4, share=5))
        atomic_write(part, table.to_csv(index=False))
    os.replace(part, file)

if __name__ == '__main__': main(*sys.argv[1:])
