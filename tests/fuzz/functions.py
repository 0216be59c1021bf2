"""Every public function of the package, called as its own notebook calls it, with one argument
changed within its type. Nobody has to list a function here: `__all__` names it, and the check cell
that stands below every definition is where its calls are taken from."""
import copy, functools, importlib, inspect, json, math, os, pkgutil, re, tempfile, time, zlib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
import matplotlib
import numpy as np, pandas as pd, torch
from hypothesis import strategies as st
import diffcirc
from .damage import other
from .files import drawn
from .outcomes import (
    CLEAR, OPEN, RIGHT, SILENT, TRACEBACK, TooLong, is_clear, quiet, within)

ROOT = Path(diffcirc.__file__).parent.parent
# they start a build, a training or a server, write where they are told, or wait for another process
LEFT_OUT = {'prepare', 'execute', 'run_pages', 'run_page', 'main', 'train_one', 'snapshot',
            'reference', 'status', 'measure_all', 'study', 'side_by_side', 'compute', 'tell',
            'remove_leftovers', 'effort', 'keep_snapshot', 'keep_reference', 'setup', 'locked'}
# words by which a docstring says what becomes of a number that is none
SAID = re.compile(r'\bNaN\b|infinit|no number|without a value')

def modules() -> list[str]:
    "The package's modules that a notebook exports."
    names = [m.name for m in pkgutil.walk_packages(diffcirc.__path__, 'diffcirc.') if not m.ispkg]
    return [n for n in names if notebook(n).exists()]

def notebook(module) -> Path:
    return ROOT/'nbs'/f"{module.removeprefix('diffcirc.').replace('.', '/')}.ipynb"

def public(module) -> dict:
    "{name: function} of the public functions that a module defines."
    m = importlib.import_module(module)
    found = {n: getattr(m, n) for n in getattr(m, '__all__', [])}
    return {n: f for n, f in found.items() if inspect.isfunction(f) and f.__module__ == module}

def plain(v) -> bool:
    "Whether a value is copied before a call: numbers, texts, tables, arrays, and lists of them."
    if isinstance(v, (list, tuple)): return all(map(plain, v))
    if isinstance(v, dict): return all(map(plain, v.values()))
    return v is None or isinstance(v, (bool, int, float, str, np.generic, np.ndarray, pd.DataFrame,
                                       pd.Series, torch.Tensor))

def own(v): return copy.deepcopy(v) if plain(v) else v

def calls(module, seconds, each=2) -> dict:
    """{name: [(args, kwargs)]} of the calls that the cells of a module's notebook make, at most
    `each` per function; the notebook runs for so many seconds at most."""
    found, functions = {}, public(module)
    def recorded(name, f):
        @functools.wraps(f)
        def call(*args, **kwargs):
            kept = [own(a) for a in args], {k: own(v) for k, v in kwargs.items()}
            out = f(*args, **kwargs)
            if (args or kwargs) and len(found.setdefault(name, [])) < each: found[name].append(kept)
            return out
        return call
    space = dict(vars(importlib.import_module(module)), __name__='__main__')
    space |= {n: recorded(n, f) for n, f in functions.items()}
    run_cells(notebook(module), space, time.monotonic() + seconds)
    return found

def run_cells(path, space, until):
    "Run the cells of a notebook that define nothing of the package, those that can be run."
    for c in json.loads(path.read_text())['cells']:
        text = ''.join(c['source'])
        skip = re.search(r'^#\| *(export|exporti|exports|default_exp|eval: *false)', text, re.M)
        if c['cell_type'] != 'code' or skip or re.search(r'^[!%]', text, re.M): continue
        left = until - time.monotonic()
        if left <= 0: return
        try:
            with within(left), quiet(): exec(compile(text, str(path), 'exec'), space)
        except TooLong: return
        except Exception: pass  # what a cell lacks here, its own test has

def kept(f) -> list:
    "What a function that was made by another one, an edit or a fitted map, keeps beside its code."
    return [c.cell_contents for c in f.__closure__ or ()]

def alike(a, b) -> bool:
    "Whether two results are the same, as far as can be said."
    if inspect.isfunction(a) and inspect.isfunction(b) and a is not b:
        return a.__code__ is b.__code__ and alike(kept(a), kept(b))
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
    if isinstance(a, (pd.DataFrame, pd.Series)): return type(a) is type(b) and a.equals(b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and bool(np.all((a == b) | ((a != a) & (b != b))))
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    try: return bool(a == b) or bool(a != a and b != b)
    except Exception: return a is b

def passed_on(v) -> bool:
    "Whether a result shows that a number is none: NaN, infinite, None, or a word for it."
    if v is None or isinstance(v, float) and not math.isfinite(v): return True
    if isinstance(v, str): return bool(re.search(r'nan|NaN|inf|∞|undefined|inconclusive|–|None|no verdict', v))
    if isinstance(v, torch.Tensor): return v.is_floating_point() and not bool(v.isfinite().all())
    if isinstance(v, pd.Series): v = v.to_frame()
    if isinstance(v, pd.DataFrame):
        return bool(v.isna().any(axis=None)) or any(passed_on(v[c].to_numpy()) for c in v)
    if isinstance(v, np.ndarray) and v.dtype == object:  # texts of a table, as `nan %`
        return any(map(passed_on, v.ravel()))
    if isinstance(v, (np.ndarray, np.generic)):
        return v.dtype.kind == 'f' and not np.isfinite(v).all()
    if isinstance(v, (list, tuple, set)): return any(map(passed_on, v))
    if isinstance(v, dict): return any(map(passed_on, v.values()))
    if inspect.isfunction(v): return any(plain(x) and passed_on(x) for x in kept(v))
    if hasattr(v, '__dict__') and not isinstance(v, torch.nn.Module):
        return any(map(passed_on, vars(v).values()))
    return False

def judged(f, what, found, clean):
    "What came of a call with one argument changed, as far as it can be judged without its meaning."
    if alike(found, clean): return RIGHT
    if what not in ('nan', 'inf'): return OPEN  # another question has another answer
    if passed_on(found) or SAID.search(inspect.getdoc(f) or ''): return RIGHT
    return SILENT

def one_call(campaign, part, name, f, args, kwargs, clean, where, what, value, seconds):
    "Call a function with one argument changed; its other arguments have to stay as they are."
    args, kwargs = [own(a) for a in args], {k: own(v) for k, v in kwargs.items()}
    if isinstance(where, int): args[where] = value
    else: kwargs[where] = value
    about, before = f'{name}({where}: {what} {str(value)[:60]})', own(value)
    try:
        with within(seconds), quiet(), open(os.devnull, 'w') as void, redirect_stdout(void), \
                redirect_stderr(void), np.errstate(all='ignore'): found = f(*args, **kwargs)
    except TooLong: return campaign.note(part, TRACEBACK, f'{about}: no end in {seconds} s')
    except Exception as e:
        out = CLEAR if is_clear(e) else TRACEBACK
        return campaign.note(part, out, f'{about}: {type(e).__name__}: {e}')
    if plain(value) and not alike(before, value) and 'in place' not in (inspect.getdoc(f) or ''):
        return campaign.note(part, SILENT, f'{about}: changes its argument')
    campaign.note(part, judged(f, what, found, clean), about)

def one_function(campaign, part, name, f, made, n, number=0):
    """Call a function n times as it was called once, with one argument changed. Whether it could be
    called."""
    args, kwargs = made
    places = [i for i, a in enumerate(args)] + list(kwargs)
    began = time.process_time()
    try:
        with within(20), quiet():
            clean = f(*[own(a) for a in args], **{k: own(v) for k, v in kwargs.items()})
    except (Exception, TooLong): return False  # the check of an error, or of what is gone
    if inspect.isgenerator(clean) or hasattr(clean, '__enter__'): return False
    seconds = max(5, 5*(time.process_time() - began))
    @drawn(n, st.data(), number=number)
    def one(data):
        where = data.draw(st.sampled_from(places))
        what, value = data.draw(other(args[where] if isinstance(where, int) else kwargs[where]))
        if what != 'same':
            one_call(campaign, part, name, f, args, kwargs, clean, where, what, value, seconds)
    matplotlib.pyplot.close('all')
    return True

def functions(campaign, module, n, seconds=60, known=(), seed=0):
    "Every public function of a module whose notebook calls it. Returns the names that were tried."
    matplotlib.use('Agg')
    part = f"functions, {module.removeprefix('diffcirc.').split('.')[0]}"
    here, tried = os.getcwd(), set()
    with tempfile.TemporaryDirectory() as d:
        os.chdir(d)  # whatever a function writes by a changed path, it writes here
        try:
            with open(os.devnull, 'w') as void, redirect_stdout(void), redirect_stderr(void):
                made = calls(module, seconds)
            for name, some in sorted(made.items()):
                if name in LEFT_OUT: continue
                own = zlib.crc32(f'{module}.{name} {seed}'.encode())  # whatever stands beside it
                campaign.known = f'{module}.{name}' in known  # counted, and not a fault
                for number, call in enumerate(some):
                    if one_function(campaign, part, f'{module}.{name}', public(module)[name], call,
                                    max(1, n//len(some)), own + number): tried.add(name)
        finally:
            os.chdir(here)
            campaign.known = False
    return sorted(tried)

def known_faults() -> set:
    """Names of functions that are known to stumble over a changed argument: a list that may only
    become shorter. A function that is not on it, a new one say, has to be right or clear."""
    lines = (Path(__file__).parent/'known.txt').read_text().splitlines()
    return {l.split('#')[0].strip() for l in lines} - {''}
