"""Homes of other kinds: of an earlier version, read-only, full, without locks, with a clock that
jumps, named by a relative path; and workers, pages and edits that used to go wrong in silence."""
import errno, json, math, os, subprocess, sys, warnings
from pathlib import Path
import pandas as pd, pytest, torch
from filelock import SoftFileLock, Timeout
from safetensors.torch import save_file
from diffcirc import core
from diffcirc.book.provenance import efforts, prepared_record
from diffcirc.core import cached_table, kept_json, locked, sealed, table_path, tables_used
from diffcirc.denoiser import training
from diffcirc.denoiser.diffusion import make_exam, untrained
from diffcirc.denoiser.sites import sweep
from diffcirc.denoiser.training import Crew, Trainer, find_run, load_tensors, restore_state, train
from diffcirc.denoiser.unet import UNetConfig
from diffcirc.study.parallel import side_by_side
from .files import toy_config, toy_faces
from .kills import (
    EXECUTE, RENDER, _finished, _killed, _many, _outputs, executions, ranks, rendered, renderings,
    small_book, trainings, two_builds)
from .outcomes import Campaign

ROOT = Path(__file__).resolve().parents[2]

def frame(): return pd.DataFrame(dict(a=[1., 2.], b=['x', None]))

@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('DIFFCIRC_HOME', str(tmp_path/'home'))
    monkeypatch.setenv('IN_TEST', '1')
    return tmp_path/'home'

# --- a cache of an earlier version ----------------------------------------------------------------

def as_before(path, **attrs):
    "A table as versions before the seal wrote it."
    f, path = frame(), Path(path)
    f.attrs = dict(table='t', seconds=1., made='2026-01-01', environment={}) | attrs
    path.parent.mkdir(parents=True, exist_ok=True)
    f.to_parquet(path)

def test_a_table_without_a_seal_is_taken_once_and_sealed():
    path, made = table_path('t', [1]), []
    as_before(path)
    for _ in range(2):
        assert cached_table('t', [1], lambda: made.append(1) or frame()).equals(frame())
    assert not made and core.SEAL in path.read_bytes()
    assert tables_used[path.stem]['sealed']

def test_a_table_without_a_seal_that_does_not_belong_there_is_made_again():
    made = []
    as_before(table_path('t', [1]), table='other')
    cached_table('t', [1], lambda: made.append(1) or frame())
    frame().to_parquet(table_path('t', [2]))
    cached_table('t', [2], lambda: made.append(1) or frame())
    assert len(made) == 2

def test_old_records_weights_and_checkpoints_are_read(home, tmp_path):
    home.mkdir()
    (home/'effort-smoke.json').write_text('{"prepare": {"seconds": {"training": 3}, "peak_mb": 9}}')
    (home/'prepared-smoke.json').write_text('{"natural": "orl", "faces": {}, "weights": []}')
    assert efforts()['prepare']['peak_mb'] == 9 and prepared_record()['natural'] == 'orl'
    w = {'w': torch.arange(3.)}
    save_file(w, tmp_path/'w.safetensors', dict(meta='{}', digest=training._digest(w)))
    assert load_tensors(tmp_path/'w.safetensors')[0]['w'].tolist() == [0, 1, 2]

def test_a_run_without_a_seal_is_found():
    run = train(toy_faces(), toy_config(), 'cpu')
    info = json.loads((run.folder/'run.json').read_text())
    del info['seal']
    (run.folder/'run.json').write_text(json.dumps(info))
    assert find_run(toy_faces(), toy_config()).weights == run.weights

def test_a_checkpoint_of_a_later_format_starts_over(tmp_path, home):
    tr = Trainer(toy_faces().images, toy_config(), Crew('cpu'))
    tr.step()
    training.save_state(tr, tmp_path/'c.safetensors')
    tensors, meta = load_tensors(tmp_path/'c.safetensors')
    save_file(tensors, tmp_path/'c.safetensors', dict(format='3', meta='{}', digest='x'))
    with pytest.raises(ValueError, match='checksum'): restore_state(tr, tmp_path/'c.safetensors')

# --- homes that cannot be written, or have no locks -----------------------------------------------

AS_NOBODY = '''
import os, sys
sys.path.insert(0, {root!r})
import torch, pandas as pd
from diffcirc.core import cached_table, keep_json, home
os.setgid(65534); os.setuid(65534)
def lost(): raise AssertionError('measured again')
print(cached_table('t', [1], lost).shape)
for f in (lambda: cached_table('t', [2], lambda: pd.DataFrame(dict(a=[1.]))),
          lambda: keep_json(home()/'a.json', {{}})):
    try: f()
    except OSError as e: print(e)
'''

@pytest.mark.skipif(os.getuid() != 0, reason='only root can become nobody')
def test_a_read_only_home_serves_what_it_has(tmp_path, home):
    cached_table('t', [1], frame)
    for p in (tmp_path, *tmp_path.parents):  # let nobody in
        if p.stat().st_uid == os.getuid() and not p.stat().st_mode & 1: os.chmod(p, 0o755)
    done = subprocess.run([sys.executable, '-c', AS_NOBODY.format(root=str(ROOT))], text=True,
                          capture_output=True, env=os.environ | dict(HOME='/nonexistent'))
    if 'Permission denied' in done.stderr: pytest.skip('nobody cannot read the packages here')
    lines = done.stdout.strip().splitlines()
    assert lines[0] == '(2, 2)', done.stderr[-1000:]
    assert all('could not be written (Permission denied)' in l and 'DIFFCIRC_HOME' in l
               for l in lines[1:]) and len(lines) == 3

def test_a_file_system_without_locks(home, monkeypatch):
    "A file that only one process can make stands in for the lock: filelock's own way, or ours."
    import fcntl
    def none(*a): raise OSError(errno.ENOSYS, 'Function not implemented')
    monkeypatch.setattr(fcntl, 'flock', none)
    home.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for _ in range(2):
            with locked(home/'lock'):
                assert list(home.iterdir())
                with pytest.raises(Timeout): SoftFileLock(next(home.iterdir())).acquire(timeout=.1)
        assert cached_table('t', [1], frame).equals(frame())

def test_a_clock_that_jumps(monkeypatch):
    "Backwards, to 1970 and to 2100: nothing that is found or made depends on the time of day."
    whole = train(toy_faces(), toy_config(), 'cpu').weights
    for k, now in enumerate((0., 4.1e9)):
        monkeypatch.setattr('time.time', lambda: now)
        monkeypatch.setattr('time.gmtime', lambda *a, real=__import__('time').gmtime: real(now))
        assert cached_table('t', [k], frame).equals(frame())
        assert cached_table('t', [k], None).equals(frame())
        assert find_run(toy_faces(), toy_config()).weights == whole

def test_a_relative_home_is_one_place(tmp_path):
    code = ("import os, diffcirc.core as c; a = c.home(); os.chdir('nbs'); "
            "assert a == c.home() == c.absolute(a), a; print(os.environ['DIFFCIRC_CELEBA'])")
    (tmp_path/'nbs').mkdir()
    env = os.environ | dict(DIFFCIRC_HOME='rel', DIFFCIRC_CELEBA='faces', PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, text=True,
                          capture_output=True)
    assert done.stdout.strip() == str(tmp_path/'faces'), done.stderr

# --- edits, workers -------------------------------------------------------------------------------

def in_place(x): return x.zero_()

def doubled(x):
    x.mul_(2)
    return x

@pytest.mark.parametrize('site', ['skip0', 'mid', 'mid.h1', 'enc0'])
def test_edits_in_place_measure_what_others_do(site):
    den = untrained(UNetConfig(16, 1, 8, (1, 2), temb=16, width=32))
    exam = make_exam(torch.randn(4, 1, 16, 16).clamp(-1, 1), (100, 600))
    from diffcirc.denoiser.sites import sites
    site = site if site in sites(den.net) else next(n for n in sites(den.net) if n[:3] == site[:3])
    for there, clean in ((in_place, torch.zeros_like), (doubled, lambda x: 2*x)):
        a, b = (sweep(den, exam, [site], edit) for edit in (there, clean))
        pd.testing.assert_frame_equal(a, b)
        assert a.impact.abs().max() > 0

def test_results_keep_their_order_and_errors_come_back():
    assert side_by_side(math.factorial, [3, 4, 5], 2) == [6, 24, 120]
    with pytest.raises(ValueError, match='not defined for negative'):
        side_by_side(math.factorial, [3, -1], 2)

def test_a_worker_killed_for_memory():
    with pytest.raises(OSError, match='lack of memory.*DIFFCIRC_WORKERS'):
        side_by_side(_many, [1, 2], 2)

# --- a few kills; `make fuzz` has more ------------------------------------------------------------

def test_a_training_killed_at_a_few_moments(tmp_path):
    campaign = Campaign()
    trainings(campaign, tmp_path, 3, 20)
    assert campaign.rows() and not campaign.faults, campaign.faults

def test_one_of_two_processes_killed(tmp_path):
    campaign = Campaign()
    ranks(campaign, tmp_path, 1, 12)
    assert campaign.counts and not campaign.faults, campaign.faults

def test_the_checkpoint_before_the_last_is_kept(tmp_path, caplog):
    "Written, read back, and gone on from where the last one is damaged."
    faces, cfg = toy_faces(), toy_config()
    def after(k):
        tr = Trainer(faces.images, cfg, Crew('cpu'))
        for _ in range(k): tr.step()
        return tr
    tr = after(2)
    training._keep_state(tr, tmp_path, 1.)
    tr.step()
    training._keep_state(tr, tmp_path, 2.)
    last, before = training._checkpoints(tmp_path)
    last.write_bytes(last.read_bytes()[:-3])
    again = Trainer(faces.images, cfg, Crew('cpu'))
    assert training._restarted(again, tmp_path) == 1. and again.k == 2 and not last.exists()
    assert 'goes on from the one before it' in caplog.text
    again.step()
    assert training._digest(again.average) == training._digest(tr.average)

def test_a_checkpoint_that_cannot_be_read_back_is_told(tmp_path, monkeypatch):
    tr = Trainer(toy_faces().images, toy_config(), Crew('cpu'))
    training._keep_state(tr, tmp_path, 1.)
    def half(tr, file, seconds): file.write_bytes(b'half of it')
    monkeypatch.setattr(training, 'save_state', half)
    with pytest.raises(ValueError, match='checkpoint.safetensors'):
        training._keep_state(tr, tmp_path, 2.)
    assert load_tensors(training._checkpoints(tmp_path)[1])  # the one before is still there

def test_a_page_killed_while_it_runs_and_while_it_is_rendered(tmp_path):
    "One page; `make fuzz` kills more of them, at more moments."
    page = ['import time', 'time.sleep(.5)', 'print(6*7)']
    book, home = small_book(tmp_path/'book', dict(index=page)), tmp_path/'home'
    _killed(EXECUTE, book, home, lambda: list(book.rglob('global.db')), True)
    _finished(EXECUTE, book, home)
    assert list(_outputs(book).values()) == ['42\n']
    _killed(RENDER, book, home, lambda: list(book.rglob('*.doctree')), False)
    _finished(RENDER, book, home)
    assert b'42' in rendered(book)['index.html'] and 'provenance.json' in rendered(book)

@pytest.mark.skipif(not os.environ.get('DIFFCIRC_FUZZ'), reason='starts a dozen kernels')
@pytest.mark.parametrize('part', [executions, renderings, two_builds])
def test_pages_killed_at_a_moment(tmp_path, part):
    campaign = Campaign()
    part(campaign, tmp_path, 2)
    assert campaign.rows() and not campaign.faults, campaign.faults

def test_records_hold_no_markup(home):
    "What a damaged or hostile record says is refused, or escaped where it is shown."
    path = core.keep_json(home/'a.json', dict(v='<script>alert(1)</script>'))
    from diffcirc.book.provenance import footer_html
    from diffcirc.book.style import json_in_html
    shown = json_in_html(kept_json(path))
    assert '<script' not in shown
    p = dict(version=shown, code='c'*16, preset='<b>', environment=dict(
        machine='<img src=x onerror=alert(1)>', cores=2, torch='2', gpu=None), made='2026-01-01')
    html = footer_html(p)
    assert '<img' not in html and '<b>' not in html
    assert sealed(frame())
