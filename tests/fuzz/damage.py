"""Hypothesis strategies for what can happen to a file, and to a value within its type."""
import copy, math, shutil
from hypothesis import strategies as st
import numpy as np, pandas as pd, torch

def flipped(b, at, bit):
    at %= len(b)
    return b[:at] + bytes([b[at] ^ 1 << bit]) + b[at + 1:]

@st.composite
def damaged(draw, whole: bytes):
    "(what was done, other bytes) of a file's content: mostly one bit, as on a failing disk."
    kind = draw(st.sampled_from(['bit']*6 + ['cut', 'zeros', 'doubled', 'swapped', 'empty', 'text']))
    at, n = draw(st.integers(0, len(whole) - 1)), draw(st.integers(1, 64))
    if kind == 'bit': return f'bit {at}', flipped(whole, at, draw(st.integers(0, 7)))
    if kind == 'cut': return f'cut at {at}', whole[:at]
    if kind == 'zeros': return f'zeros at {at}', whole[:at] + b'\0'*n + whole[at + n:]
    if kind == 'doubled': return f'doubled at {at}', whole[:at] + whole[max(0, at - n):]
    if kind == 'swapped': return f'swapped at {at}', whole[at:] + whole[:at]
    if kind == 'empty': return 'empty', b''
    return 'text', draw(st.sampled_from([b'null', b'[]', b'{}', b'1', b'"x"', b'<html>', b'\xff\xfe']))

def put(path, content):
    "Give a file this content; None removes it, 'folder' puts a folder in its place."
    if path.is_dir(): shutil.rmtree(path)
    else: path.unlink(missing_ok=True)
    if content == 'folder': path.mkdir(parents=True)
    elif content is not None: path.write_bytes(content)

def file_damage(whole: bytes):
    "The same for a file as a whole, which can also be gone, or be a folder."
    gone = st.sampled_from([('gone', None), ('a folder', 'folder')])
    return st.one_of(*[damaged(whole)]*9, gone)

# --- values ---------------------------------------------------------------------------------------

FLOATS = [math.nan, math.inf, -math.inf, 0., -1., 1.5, 1e300, -1e-300]
INTS = [0, -1, 1, 7, -1000]
TEXTS = ['', 'nonsense', '../x', '<script>alert(1)</script>', 'a\0b', '$x$ {{1}} `_`', 'é\u202e']

def _one_other(draw, a):
    "An array with one of its numbers replaced; (what, array)."
    # in one piece, or `reshape` below would write into a copy; of its own precision, or all other
    # numbers of a column would change with the one
    a = np.array(a, dtype=float if a.dtype.kind in 'iu' else a.dtype, copy=True, order='C')
    if not a.size or a.dtype.kind != 'f': return 'same', a
    v = draw(st.sampled_from([math.nan]*3 + [math.inf, -math.inf]))
    a.reshape(-1)[draw(st.integers(0, a.size - 1))] = v
    return ('nan' if math.isnan(v) else 'inf'), a

@st.composite
def other_array(draw, a):
    kind = draw(st.sampled_from(['one']*4 + ['none', 'fewer', 'all nan']))
    if kind == 'none': return 'empty', a[:0]
    if kind == 'fewer': return 'fewer', a[:max(1, len(a)//2)] if a.ndim else a
    if kind == 'all nan' and a.dtype.kind == 'f': return 'nan', np.full_like(a, math.nan)
    return _one_other(draw, a)

@st.composite
def other_frame(draw, f):
    "(what, table) with a number replaced, without rows, or with fewer of them."
    kind = draw(st.sampled_from(['one']*4 + ['none', 'fewer', 'column']))
    if kind == 'none': return 'empty', f.iloc[:0]
    if kind == 'fewer': return 'fewer', f.iloc[:max(1, len(f)//2)]
    floats = [c for c in f.columns if f[c].dtype.kind == 'f']
    if not floats or not len(f): return 'same', f
    f, c = f.copy(), draw(st.sampled_from(floats))
    what, values = ('nan', math.nan) if kind == 'column' else _one_other(draw, f[c].to_numpy())
    f[c] = np.broadcast_to(np.asarray(values, f[c].dtype), len(f)).copy()
    return what, f

@st.composite
def other(draw, v):
    """(what was done, another value of the same type): 'nan' and 'inf' where a number that is none
    was put in; 'same' where there is nothing to change."""
    if isinstance(v, (bool, np.bool_)): return 'other', not v
    if isinstance(v, (int, np.integer)): return 'other', draw(st.sampled_from(INTS))
    if isinstance(v, (float, np.floating)):
        x = draw(st.sampled_from(FLOATS))
        return ('nan' if math.isnan(x) else 'inf' if math.isinf(x) else 'other'), x
    if isinstance(v, str): return 'other', draw(st.sampled_from(TEXTS))
    if isinstance(v, pd.DataFrame) and v.columns.is_unique: return draw(other_frame(v))
    if isinstance(v, pd.Series) and v.dtype.kind in 'iuf':
        row = v.index.dtype.kind not in 'iuf'  # of a table: it keeps its fields
        what, a = _one_other(draw, v.to_numpy()) if row else draw(other_array(v.to_numpy()))
        return what, pd.Series(a, v.index[:len(a)], name=v.name)
    if isinstance(v, np.ndarray) and v.ndim: return draw(other_array(v))
    if isinstance(v, torch.Tensor) and v.ndim and v.is_floating_point():
        what, a = draw(other_array(v.detach().double().numpy()))  # NumPy has no bfloat16
        return what, torch.from_numpy(np.ascontiguousarray(a)).to(v.dtype)
    if isinstance(v, (list, tuple)) and len(v): return draw(other_list(v))
    if isinstance(v, dict) and v and draw(st.booleans()):
        k = draw(st.sampled_from(sorted(v, key=str)))
        what, new = draw(other(v[k]))
        changed = copy.copy(v)  # of its own type: `|` makes a plain dict of a cell of a notebook
        changed[k] = new
        return what, changed
    return 'same', v

@st.composite
def other_list(draw, v):
    kind = draw(st.sampled_from(['one']*3 + ['none', 'fewer', 'twice']))
    make = (lambda x: type(v)(*x)) if hasattr(v, '_fields') else type(v)
    if kind != 'one' and hasattr(v, '_fields'): return 'same', v
    if kind == 'none': return 'empty', make([])
    if kind == 'fewer': return 'fewer', make(v[:-1])
    if kind == 'twice': return 'twice', make([*v, v[0]])
    i = draw(st.integers(0, len(v) - 1))
    what, new = draw(other(v[i]))
    return what, make([*v[:i], new, *v[i + 1:]])
