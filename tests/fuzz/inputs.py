"""What comes from outside: CelebA's folder and Parquet file, the command line, the environment."""
import contextlib, io, os, re, shutil, sys
from pathlib import Path
import numpy as np, pandas as pd
from hypothesis import strategies as st
from PIL import Image
from diffcirc import cli
from diffcirc.core import elsewhere
from diffcirc.faces import data
from diffcirc.faces.data import read_celeba, read_parquet
from .damage import damaged, put
from .files import drawn
from .outcomes import CLEAR, OPEN, RIGHT, SILENT, TRACEBACK, quiet

ATTRS, PEOPLE, PARTS = 'list_attr_celeba.txt', 'identity_CelebA.txt', 'list_eval_partition.txt'
COLUMNS = [*data._CELEBA.values(), 'Attractive']

def jpeg(seed=0):
    a = np.random.default_rng(seed).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    Image.fromarray(a).save(b := io.BytesIO(), 'JPEG', quality=30)
    return b.getvalue()

def folder_of_faces(folder, n=6):
    "A folder in CelebA's layout with noise pictures."
    names, g = [f'{i + 1:06d}.jpg' for i in range(n)], np.random.default_rng(0)
    (folder/'img_align_celeba').mkdir(parents=True)
    for i, k in enumerate(names): (folder/'img_align_celeba'/k).write_bytes(jpeg(i))
    rows = [k + ' ' + ' '.join(map(str, g.choice([-1, 1], len(COLUMNS)))) for k in names]
    (folder/ATTRS).write_text('\n'.join([str(n), ' '.join(COLUMNS), *rows]) + '\n')
    (folder/PEOPLE).write_text('\n'.join(f'{k} {i % 3 + 1}' for i, k in enumerate(names)) + '\n')
    (folder/PARTS).write_text('\n'.join(f'{k} {i % 3}' for i, k in enumerate(names)) + '\n')
    return folder

TOKENS = ['', 'nan', 'inf', '1.5', '1e3', '100000000000000000000', '²', '-1', '0', '7', 'NA', '"q"',
          'x', '1 1', '\ufeff', '000001.jpg', "'", '#', '1,2', '0x10', '+1', '\t', '\0']

@st.composite
def other_text(draw, text):
    "A text table with a token, a row, its line ends or its encoding changed."
    kind = draw(st.sampled_from(['token']*6 + ['drop', 'twice', 'crlf', 'bom', 'blank']))
    lines = text.splitlines()
    i = draw(st.integers(0, len(lines) - 1))
    if kind == 'token':
        parts = lines[i].split()
        j = draw(st.sampled_from([0, len(parts) - 1, draw(st.integers(0, len(parts) - 1))]))
        parts[j] = draw(st.sampled_from(TOKENS))
        lines[i] = ' '.join(parts)
    if kind == 'drop': del lines[i]
    if kind == 'twice': lines.insert(i, lines[i])
    if kind == 'blank': lines.insert(i, '')
    return (f'{kind}, line {i + 1}: {lines[i][:30] if i < len(lines) else ""}',
            ('\ufeff' if kind == 'bom' else '') + ('\r\n' if kind == 'crlf' else '\n').join(lines) + '\n')

def told(folder):
    "{file name: (identity, smiling)} by the plainest reading; None where a file is not in its form."
    rows = [l.split() for l in (folder/ATTRS).read_text('utf-8-sig').splitlines()]
    if len(rows) < 2: return None
    people = [l.split() for l in (folder/PEOPLE).read_text('utf-8-sig').splitlines() if l.split()]
    count, columns, rows = rows[0], rows[1], [r for r in rows[2:] if r]
    whole = re.compile(r'[-+]?[0-9]{1,18}')
    if {*data._CELEBA.values()} - {*columns}: return None
    if len(count) != 1 or not re.fullmatch('[0-9]+', count[0]): return None
    if int(count[0]) != len(rows) or len(set(columns)) < len(columns): return None
    if any(len(r) != len(columns) + 1 or {*r[1:]} - {'-1', '1', '+1'} for r in rows): return None
    if any(len(r) != 2 or not whole.fullmatch(r[1]) for r in people): return None
    ids = {r[0]: int(r[1]) for r in people}
    names = [r[0] for r in rows]
    if len(ids) < len(people) or len(set(names)) < len(names) or set(names) - ids.keys(): return None
    smiling = columns.index('Smiling')
    return {r[0]: (ids[r[0]], float(int(r[smiling + 1]) > 0)) for r in rows}

def celeba_texts(campaign, folder, n):
    "CelebA's text files, against the plainest reading of them."
    c = folder_of_faces(Path(folder)/'celeba')
    with elsewhere(Path(folder)/'home'):
        for k, name in enumerate((ATTRS, PEOPLE)):
            whole = (c/name).read_text()
            @drawn(n//2, other_text(whole), number=k)
            def one(how):
                (c/name).write_bytes(how[1].encode())
                want = told(c)
                def judge(f):
                    if want is None: return SILENT
                    same = f.ids.tolist() == [i for i, _ in want.values()]
                    return RIGHT if same and f.attrs.smiling.tolist() == [s for _, s in want.values()] \
                        else SILENT
                with quiet(): campaign.tried('CelebA, texts', lambda: read_celeba(c, size=16), judge,
                                             f'{name}, {how[0]}')
            (c/name).write_text(whole)

def celeba_images(campaign, folder, n):
    "An image of CelebA damaged: refused, or decoded to something else, which nobody can judge."
    c = folder_of_faces(Path(folder)/'celeba')
    path = c/'img_align_celeba'/'000002.jpg'
    whole, other = path.read_bytes(), jpeg(99)
    with elsewhere(Path(folder)/'home'):
        right = read_celeba(c, size=16)
        @drawn(n, damaged(whole))
        def one(how):
            put(path, how[1])
            def judge(f): return RIGHT if f.fingerprint == right.fingerprint else OPEN
            campaign.tried('CelebA, images', lambda: read_celeba(c, size=16), judge, how[0])
        put(path, other + b'\0'*(len(whole) - len(other)) if len(other) < len(whole) else other)
        old = read_celeba(c, size=16).fingerprint == right.fingerprint
        campaign.note('CelebA, images', SILENT if old else RIGHT, 'an image replaced')

def parquet(campaign, folder, n):
    "CelebA as Parquet, with one value that does not belong there, or damaged bytes."
    c, path = folder_of_faces(Path(folder)/'celeba'), Path(folder)/'shard.parquet'
    table = (data._celeba_attrs(c/ATTRS) > 0).astype(object).reset_index(drop=True)
    table['image'] = [dict(bytes=p.read_bytes()) for p in sorted((c/'img_align_celeba').iterdir())]
    table['celeb_id'] = pd.Series(range(6), dtype=object)
    table.to_parquet(path)
    right, whole = read_parquet(path, size=16), path.read_bytes()
    values = dict(Male=[None, 7, .5, -3], image=[None, {'path': 'x'}, {'bytes': b''}],
                  celeb_id=[None, 1.5, 10**18 + .0, -5])
    cases = st.sampled_from([(k, v) for k, vs in values.items() for v in vs])
    @drawn(n//2, cases, st.integers(0, 5))
    def one(case, row):
        column, v = case
        other = table.copy()
        if column == 'Male': other[column] = other[column].astype(float)
        if column == 'celeb_id': other[column] = other[column].astype(float)
        other.at[row, column] = v
        other.to_parquet(path)
        good = column == 'celeb_id' and v is not None and v == int(v)
        campaign.tried('CelebA, Parquet', lambda: read_parquet(path, size=16),
                       lambda f: RIGHT if good and f.ids[row] == v else SILENT, f'{column} = {v}')
    @drawn(n - n//2, damaged(whole))
    def bytes_damaged(how):
        put(path, how[1])
        def judge(f): return RIGHT if f.fingerprint == right.fingerprint else OPEN
        campaign.tried('CelebA, Parquet', lambda: read_parquet(path, size=16), judge, how[0])

SETTINGS = {'DIFFCIRC_PRESET': ['huge', '', 'SMOKE', '../smoke'],
            'DIFFCIRC_HOME': ['~nobody-of-this-name', '/dev/null/x', '', 'a\nb'],
            'DIFFCIRC_NATURAL': ['cats', 'celeba', 'CELEBA', 'orl '],
            'DIFFCIRC_CELEBA': ['/nowhere', '~nobody-of-this-name', '.'],
            'DIFFCIRC_WORKERS': ['x', '-1', '²', '1.5'], 'WORLD_SIZE': ['x', '0', '-1', ''],
            'RANK': ['x', '1e3', '-1'], 'XDG_CACHE_HOME': ['relative', '/dev/null']}
ARGUMENTS = [['status'], ['status', 'x'], ['nothing'], [], ['--preset', 'huge', 'status'],
             ['train', '--seed', '9223372036854775808'], ['train', '--seed', '-1'],
             ['train', '--seed', 'x'], ['train', '--dataset', 'cats'], ['snapshot', '--file'],
             ['--preset', 'smoke', 'status'], ['-h'], ['status', '-h']]

def _command(arguments):
    "What a command prints, and its exit status; nothing else may come out of it."
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try: cli.main(arguments)
        except SystemExit as e: return e.code, out.getvalue() + str(e.code)
    return 0, out.getvalue()

def commands(campaign, folder, n):
    "Commands with arguments and settings that make no sense."
    one_setting = st.sampled_from([(k, v) for k, vs in SETTINGS.items() for v in vs])
    @drawn(n, st.sampled_from(ARGUMENTS), st.one_of(st.none(), one_setting))
    def one(arguments, setting):
        old = dict(os.environ)
        os.environ.update(DIFFCIRC_HOME=str(Path(folder)/'home'), IN_TEST='1', HF_HUB_OFFLINE='1')
        os.environ.pop('DIFFCIRC_CELEBA', None)
        if setting: os.environ[setting[0]] = setting[1]
        def judge(done):
            code, said = done
            if 'Traceback' in said: return TRACEBACK
            return RIGHT if code in (0, None) else CLEAR
        try: campaign.tried('command line', lambda: _command(arguments), judge,
                            f'{setting} {arguments}', 120)
        finally:
            os.environ.clear()
            os.environ.update(old)

def fresh(folder):
    "An empty folder."
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    return Path(folder)

ALL = dict(texts=celeba_texts, images=celeba_images, parquet=parquet, commands=commands)
__all__ = ['ALL', 'fresh', 'sys']
