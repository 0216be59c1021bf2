"""Everything that is kept in a home, damaged: it is read as it was written, made again, or named."""
import json, math
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pandas as pd, torch
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st
from diffcirc.book import claims, provenance, reproduce
from diffcirc.core import (
    cached_table, content_hash, elsewhere, home, keep_json, kept_json, paper_claims, table_path)
from diffcirc.denoiser.training import (
    Crew, TrainConfig, Trainer, _keep_state, find_run, kept_tensors, restore_state, train)
from diffcirc.denoiser.unet import UNetConfig
from diffcirc.faces.data import ATTRIBUTES, FaceSet, load_faces, save_faces
from diffcirc.study.critic import CriticConfig, train_critic
from .damage import file_damage, put
from .outcomes import CLEAR, RIGHT, SILENT, quiet

def drawn(n, *strategies, number=0):
    "Call a function with n draws: no example database, no shrinking, the same ones every time."
    def run(f):
        free = settings(max_examples=n, database=None, deadline=None, phases=[Phase.generate],
                        suppress_health_check=list(HealthCheck))
        seed(number)(free(given(*strategies)(f)))()
    return run

def judged(right): return lambda found: RIGHT if right(found) else SILENT

def each_damage(campaign, part, n, path: Path, read, right, number=0):
    "Damage one file in n ways; after each, `read()` has to give what `right` knows."
    whole = path.read_bytes()
    @drawn(n, file_damage(whole), number=number)
    def one(how):
        put(path, how[1])
        with quiet(): campaign.tried(part, read, judged(right), f'{path.name}, {how[0]}')
        put(path, whole)

def toy_faces(n=12, size=16):
    g = torch.Generator().manual_seed(0)
    attrs = pd.DataFrame(np.nan, range(n), list(ATTRIBUTES))
    return FaceSet('synthetic', torch.rand(n, 1, size, size, generator=g)*2 - 1, attrs, np.arange(n))

def toy_config(**kw):
    net = UNetConfig(16, 1, 8, (1, 2), temb=16, width=32)
    return TrainConfig(net, **dict(steps=6, batch=4, warmup=2, log_every=1, keep=(.5,)) | kw)

def tables(campaign, folder, n):
    "Measured tables."
    frame = pd.DataFrame(dict(timestep=[100, 300, 600], value=[.0068, math.nan, -1.5],
                              site=['enc0', 'mid', None]))
    with elsewhere(folder):
        def read(): return cached_table('impact', [1], frame.copy, seed=3)
        read()
        def right(found): return found.equals(frame)
        each_damage(campaign, 'tables', n, table_path('impact', [1]), read, right)

def records(campaign, folder, n):
    "The small JSON files: what was prepared, what steps took, pages, claims."
    answer = dict(id=next(iter(paper_claims())), ours='2 [1, 3]', lo=1., hi=3., verdict='holds',
                  cell='tbl-x', reason='so')
    with elsewhere(folder):
        study = SimpleNamespace(runs={0: SimpleNamespace(weights='a')},
                                preset=SimpleNamespace(name='x'))
        took = dict(prepare=dict(seconds=dict(training=12.5), peak_mb=900))
        ready = dict(natural='orl', faces=dict(synthetic=['a', 'b']), weights=['c'])
        keep_json(provenance.effort_file(), took)
        keep_json(provenance.prepared_file(), ready)
        provenance.footer(title='A page')
        claims.record(study, 'study.models', [answer])
        page, ledger = reproduce.page_costs(), claims.ledger(study)
        def none_or(right): return lambda found: found in ({}, right)
        def same(f): return lambda found: not len(found) or found.equals(f)
        cases = ((provenance.effort_file(), provenance.efforts, none_or(took)),
                 (provenance.prepared_file(), provenance.prepared_record, none_or(ready)),
                 (next(provenance.records().glob('*.json')), reproduce.page_costs, same(page)),
                 (next(claims.records_place(study).glob('*.json')), lambda: claims.ledger(study),
                  lambda found: found.equals(ledger) or found.verdict.isna().all()))
        for k, (path, read, right) in enumerate(cases):
            each_damage(campaign, 'records', n//4, path, read, right, k)

def json_files(campaign, folder, n):
    "What `keep_json` keeps, read by `kept_json`."
    kept = dict(ours='1.25', lo=None, list=[1, 2.5, math.inf], deep=dict(a='é'))
    path = keep_json(Path(folder)/'a.json', kept)
    def read():
        try: return kept_json(path)
        except FileNotFoundError: return kept
    each_damage(campaign, 'records', n, path, read, lambda found: found == kept)

def runs(campaign, folder, n):
    "A finished run: `run.json`, the weights, the record, a stage."
    with elsewhere(folder), quiet():
        faces, cfg = toy_faces(), toy_config()
        run = train(faces, cfg, 'cpu')
        info = json.loads(json.dumps(run.info))
        names = ['run.json']*3 + ['model.safetensors', 'record.parquet', 'step-3.safetensors']
        whole = {run.folder/n: (run.folder/n).read_bytes() for n in names[3:]}
        def same(found):
            if found is None: return True  # it is trained again
            return found.info == info and all(
                p.is_file() and p.read_bytes() == b for p, b in whole.items())
        for k, name in enumerate(names):
            each_damage(campaign, 'runs', n//len(names), run.folder/name,
                        lambda: find_run(faces, cfg), same, k)

def old_runs(campaign, folder, n):
    "A run of an earlier version, whose `run.json` has no seal."
    with elsewhere(folder), quiet():
        faces, cfg = toy_faces(), toy_config()
        path = train(faces, cfg, 'cpu').folder/'run.json'
        info = json.loads(path.read_text())
        del info['seal']
        path.write_text(json.dumps(info))
        def same(run):
            if run is None: return True
            return all(run.info.get(k) == info[k] for k in ('config', 'data', 'files'))
        each_damage(campaign, 'runs of an earlier version', n, path,
                    lambda: find_run(faces, cfg), same)

def checkpoints(campaign, folder, n):
    "A checkpoint: restored as it was written, or refused before anything is changed."
    faces, cfg, folder = toy_faces(), toy_config(), Path(folder)
    tr = Trainer(faces.images, cfg, Crew('cpu'))
    for _ in range(3): tr.step()
    _keep_state(tr, folder, 1.)
    def state(t): return [t.k, json.dumps(t.record), content_hash(t.average),
                          content_hash({n: p for n, p in t.net.named_parameters()})]
    kept, new = state(tr), Trainer(faces.images, cfg, Crew('cpu'))
    fresh = state(new)
    def read():
        t = Trainer(faces.images, cfg, Crew('cpu'))
        try: restore_state(t, folder/'checkpoint.safetensors')
        except (ValueError, OSError) as e:
            if state(t) != fresh: return None
            raise e
        return state(t)
    each_damage(campaign, 'checkpoints', n, folder/'checkpoint.safetensors',
                lambda: _missing_is_none(read, kept), lambda found: found == kept)

def _missing_is_none(read, kept):
    try: return read()
    except (FileNotFoundError, IsADirectoryError): return kept  # training starts over

def faces(campaign, folder, n):
    "Saved faces."
    f, path = toy_faces(), Path(folder)/'faces'
    f.attrs['male'] = 1.
    save_faces(path, f)
    for k, suffix in enumerate(('parquet', 'safetensors')):
        def read():
            try: return load_faces(path).fingerprint
            except FileNotFoundError: return f.fingerprint  # made again
        each_damage(campaign, 'faces', n//2, path.with_suffix(f'.{suffix}'), read,
                    lambda found: found == f.fingerprint, k)

def critics(campaign, folder, n):
    "A trained critic: found, or trained again to the same weights."
    with elsewhere(folder), quiet():
        cfg = CriticConfig(16, 1, n=8, steps=1, batch=4, width=4, features=4)
        kept = train_critic(cfg)
        each_damage(campaign, 'critics', n, kept.path, lambda: train_critic(cfg).weights,
                    lambda found: found == kept.weights)

def made_once(campaign, folder, n):
    "What is made once and kept by one function: VAEs, dictionaries, readers, planted networks."
    g, path = torch.Generator().manual_seed(0), Path(folder)/'readers'/'a.safetensors'
    kept = dict(w=torch.randn(8, 4, generator=g), b=torch.randn(4, generator=g))
    def read(): return kept_tensors(path, lambda: (kept, dict(of='an example')))
    read()
    def right(found):
        tensors, meta = found
        return meta == dict(of='an example') and content_hash(tensors) == content_hash(kept)
    each_damage(campaign, 'made once', n, path, read, right)

ALL = dict(tables=tables, records=records, json=json_files, runs=runs, old=old_runs,
           checkpoints=checkpoints, faces=faces, critics=critics, made_once=made_once)
__all__ = ['ALL', 'CLEAR', 'drawn', 'home', 'st']
