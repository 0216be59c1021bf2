"""Compare all cached tables of two builds:
python benchmarks/compare_homes.py BEFORE AFTER [OLD=NEW …]

Tables are paired by instrument, dataset, seed, images, timesteps and every column that is not a
float; among equals (the same instrument on two exams) by the smallest difference. Prints, for each
instrument, the number of tables, of numbers, the largest difference relative to the column's
spread, and the share of numbers that are equal. OLD=NEW names an instrument that was renamed. Exit
status 1 when a table has no partner."""
import sys
from collections import defaultdict
from pathlib import Path
import numpy as np, pandas as pd

def signature(table, renamed):
    "What two tables must share to be compared."
    a = table.attrs
    name = renamed.get(a['table'], a['table'])
    labels = table.select_dtypes(exclude='floating')
    content = 0
    if labels.size: content = pd.util.hash_pandas_object(labels.astype(str), index=False).sum()
    about = tuple(str(a.get(k))
                  for k in ('dataset', 'seed', 'trained', 'n_images', 'timesteps', 'kind'))
    return name, *about, tuple(sorted(map(str, table.columns))), len(table), int(content)

def read(home, renamed=None):
    "{signature: [tables]} of a cache directory."
    out = defaultdict(list)
    for f in sorted(Path(home, 'tables').glob('*.parquet')):
        t = pd.read_parquet(f)
        if t.attrs.get('table'): out[signature(t, renamed or {})].append(in_order(t))
    return out

def in_order(table) -> pd.DataFrame:
    "The rows in the order of their labels: the order in which they were made is no result."
    labels = list(table.select_dtypes(exclude='floating'))
    return table.sort_values(sorted(labels), kind='stable') if labels else table

def differences(a, b) -> np.ndarray:
    """Differences of all float columns in units of the column's standard deviation; NaN beside NaN
    is no difference."""
    parts = [np.zeros(0)]
    for c in a.select_dtypes('floating'):
        x, y = a[c].to_numpy(float), b[c].to_numpy(float)
        finite = x[np.isfinite(x)]
        scale = (finite.std() if len(finite) else 0) or np.abs(finite).max(initial=0) or 1.
        with np.errstate(invalid='ignore'): d = np.abs(x - y)/scale
        same = np.isnan(x) & np.isnan(y) | (x == y)
        parts.append(np.where(same, 0., np.where(np.isnan(d), np.inf, d)))
    return np.concatenate(parts)

def compare(before, after) -> tuple[dict, list]:
    "({instrument: [differences]}, signatures without a partner)."
    found, lost = defaultdict(list), []
    for key in {*before, *after}:
        old, new = list(before.get(key, ())), list(after.get(key, ()))
        if len(old) != len(new): lost.append((key[:7], len(old), len(new)))
        for t in old:
            if not new: break
            d = [differences(t, u) for u in new]
            i = int(np.argmin([v.max(initial=0) for v in d]))
            found[key[0]].append(d[i])
            new.pop(i)
    return found, lost

def main(before, after, *renames):
    renamed = dict(r.split('=') for r in renames)
    found, lost = compare(read(before, renamed), read(after))
    for name, parts in sorted(found.items()):
        d = np.concatenate(parts)
        print(f'{name:28} tables {len(parts):4}  numbers {len(d):9,}  largest difference '
              f'{d.max(initial=0):8.2g} SD  equal {(d == 0).mean() if len(d) else 1:7.2%}')
    for key, n, m in lost: print('NO PARTNER', key, n, 'before,', m, 'after')
    return bool(lost)

if __name__ == '__main__':
    if len(sys.argv) < 3: sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
