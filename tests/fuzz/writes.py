"""Every step of a write fails, is cut short, is the last one of its process, or is lost in a power
cut; what is read afterwards is what was there before or what was written."""
import os, resource, shutil, signal, subprocess
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch
import numpy as np, pandas as pd, torch
from diffcirc import core
from diffcirc.core import cached_table, elsewhere, keep_json, kept_json, remove_leftovers
from diffcirc.circuits.ablation import ablate
from diffcirc.denoiser.diffusion import make_exam
from diffcirc.denoiser.training import load_tensors, save_tensors, train
from diffcirc.faces.data import load_faces, save_faces
from diffcirc.study.jobs import Job, compute
from .files import toy_config, toy_faces
from .outcomes import CLEAR, RIGHT, SILENT, TRACEBACK, is_clear, quiet

STEPS = ('Path.mkdir', '_write', 'os.fsync', 'os.replace', '_sync_folder')
ERRORS = (OSError(28, 'No space left on device'), OSError(5, 'Input/output error'),
          PermissionError(13, 'Permission denied'), OSError(30, 'Read-only file system'))

class Kept:
    "Something that is written in two versions, and read back as one of them."
    def __init__(self, folder): self.folder = Path(folder)

class AJson(Kept):
    def write(self, v): keep_json(self.folder/'a.json', dict(v=v))
    def read(self): return kept_json(self.folder/'a.json')['v']

class ATable(Kept):
    def write(self, v):
        "A table of another version in the same place, as when the first is found damaged."
        path = core.table_path('t', [1])
        frame = pd.DataFrame(dict(a=np.full(3000, float(v))))
        frame.attrs = dict(table='t', place=path.stem)
        core.atomic_write(path, core.sealed(frame))
    def read(self): return int(cached_table('t', [1], lambda: pd.DataFrame(dict(a=[2.]))).a[0])

class ATensor(Kept):
    def write(self, v): save_tensors(self.folder/'a.safetensors', {'w': torch.full((3000,), float(v))})
    def read(self): return int(load_tensors(self.folder/'a.safetensors')[0]['w'][0])

class AFace(Kept):
    def write(self, v): save_faces(self.folder/'f', toy_faces(4)[[v]])
    def read(self):
        f, want = load_faces(self.folder/'f'), [toy_faces(4)[[v]].fingerprint for v in range(4)]
        return want.index(f.fingerprint)

THINGS = (AJson, ATable, ATensor, AFace)

def failing(step, how):
    "A patch by which one step of a write does `how()` instead."
    where = {'Path.mkdir': (Path, 'mkdir'), 'os.fsync': (os, 'fsync'), 'os.replace': (os, 'replace')}
    return patch.object(*where.get(step, (core, step)), side_effect=how)

def read_after(campaign, part, thing, about):
    "Judge what is read: the old (1) or the new (2), or for two files a named mixture."
    try: found = thing.read()
    except (ValueError, FileNotFoundError) as e:
        ok = is_clear(e) and isinstance(thing, AFace)
        return campaign.note(part, CLEAR if ok else TRACEBACK, f'{about}: {e!r}')
    campaign.note(part, RIGHT if found in (1, 2) else SILENT, f'{about}: {found}')

def errors(campaign, folder, n):
    "Every step of every kind of write raises every kind of error."
    for of in THINGS:
        for step in STEPS[1:]:
            for e in ERRORS:
                with elsewhere(folder), quiet():
                    thing = of(folder)
                    thing.write(1)
                    def how(*a, e=e): raise e
                    with failing(step, how):
                        try: thing.write(2)
                        except Exception as got:
                            out = CLEAR if is_clear(got) and str(folder) in str(got) else TRACEBACK
                            campaign.note('a step of a write fails', out, f'{of} {step} {got!r}')
                    read_after(campaign, 'a step of a write fails', thing, f'{of} {step}')
                    left = [*Path(folder).rglob('.*.tmp')]
                    campaign.note('a step of a write fails', SILENT if left else RIGHT, left)

def in_child(f) -> int:
    "Run a function in a process of its own, which ends without cleaning up; its exit status."
    pid = os.fork()
    if not pid:
        try: f()
        except BaseException: os._exit(3)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

def deaths(campaign, folder, n):
    "The process is killed before and in every step; the next one reads, writes and tidies up."
    for of in THINGS:
        for step in STEPS:
            def die(*a, **k):
                if step == '_write' and a: Path(a[0]).write_bytes(b'half')
                os.kill(os.getpid(), signal.SIGKILL)
            with elsewhere(folder), quiet():
                thing = of(folder)
                thing.write(1)
                def killed():
                    with failing(step, die): thing.write(2)
                in_child(killed)
                read_after(campaign, 'killed in a step of a write', thing, f'{of} {step}')
                remove_leftovers(folder)
                left = [*Path(folder).rglob('.*.tmp')]
                campaign.note('killed in a step of a write', SILENT if left else RIGHT, left)
                thing.write(2)
                read_after(campaign, 'killed in a step of a write', thing, f'{of} {step}')

def sizes(campaign, folder, n):
    "The disk is full after any number of bytes: a limit of the process stands in for it."
    for of in THINGS:
        with elsewhere(folder), quiet():
            thing = of(folder)
            thing.write(1)
            for limit in np.geomspace(1, 40_000, max(2, n//len(THINGS))).astype(int).tolist():
                def limited():
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                    try: thing.write(2)
                    except Exception as e: os._exit(0 if is_clear(e) else 3)
                code = os.waitstatus_to_exitcode(in_child(limited))
                campaign.note('full disk', CLEAR if code == 0 else TRACEBACK, f'{of} {limit}')
                read_after(campaign, 'full disk', thing, f'{of} {limit}')

class Disk:
    """What a power cut leaves of recorded writes. Content is sure from the flush of the file on, a
    name from the flush of its folder on; before that either may be lost."""
    def __init__(self): self.steps = []
    def record(self):
        "Patches that record while they write."
        write, replace, sync = core._write, os.replace, core._sync_folder
        def _write(tmp, content):
            write(tmp, content)
            self.steps.append(('flushed', str(tmp), Path(tmp).read_bytes()))
        def _replace(a, b):
            replace(a, b)
            self.steps.append(('moved', str(a), str(b)))
        def _sync(folder):
            sync(folder)
            self.steps.append(('folder', str(folder), None))
        return (patch.object(core, '_write', _write), patch.object(os, 'replace', _replace),
                patch.object(core, '_sync_folder', _sync))

    def states(self, upto):
        "[{path: content}, …] that a cut after `upto` steps may leave, beyond what was there."
        files, sure, waiting = {}, {}, {}
        for kind, a, b in self.steps[:upto]:
            if kind == 'flushed': files[a] = b
            if kind == 'moved': waiting[b] = files.pop(a)
            if kind == 'folder':
                sure |= {p: c for p, c in waiting.items() if str(Path(p).parent) == a}
                waiting = {p: c for p, c in waiting.items() if p not in sure}
        halves = {p: c[:len(c)//2] for p, c in files.items()}
        return [sure, sure | waiting, sure | waiting | halves]

def power_cuts(campaign, folder, n):
    "A power cut after any step: nothing half-written is read, and what `write` returned from is kept."
    part = 'power cut'
    for of in THINGS:
        with elsewhere(folder), quiet():
            thing, disk = of(folder), Disk()
            thing.write(1)
            before = {str(p): p.read_bytes() for p in Path(folder).rglob('*') if p.is_file()}
            a, b, c = disk.record()
            with a, b, c: thing.write(2)
            for upto in range(len(disk.steps) + 1):
                for state in disk.states(upto):
                    for p, content in (before | state).items(): Path(p).write_bytes(content)
                    whole = upto == len(disk.steps)
                    if whole:
                        found = thing.read()
                        campaign.note(part, RIGHT if found == 2 else SILENT, f'{of} lost')
                    else: read_after(campaign, part, thing, f'{of} after {upto}')

# --- a home that is full while a build prepares ---------------------------------------------------

@contextmanager
def disk_of(folder, size):
    """A file system of so many bytes; where none can be mounted, no file in it exceeds them: how
    much it holds is then set by the process that writes."""
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder]
    able = shutil.which('mount') and shutil.which('umount')
    mounted = able and subprocess.run(mount, capture_output=True).returncode == 0
    try: yield mounted
    finally:
        if mounted: subprocess.run(['umount', '-l', folder])

def _prepared(folder):
    "As `diffcirc prepare` does on a small scale: a model trained, and measured."
    faces = toy_faces()
    with elsewhere(folder), quiet():
        run = train(faces, toy_config(), 'cpu', checkpoint_s=0.)
        todo = [Job(ablate, run, make_exam(faces.images[:n], (100, 600)), {}, 'synthetic', 0)
                for n in (2, 3, 4)]
        compute(todo, 1)
        return run.weights, [j.table().to_csv() for j in todo]

def _clear_or_done(home, said, limit=None):
    "In a process of its own: what `_prepared` says when it does not come to its end."
    def go():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try: _prepared(home)
        except Exception as e:
            if limit: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,)*2)
            said.write_text(f'{is_clear(e)} {e}')
    in_child(go)
    return said.read_text() if said.exists() else ''

def full_homes(campaign, folder, n):
    """The disk is full at a moment of a training or of the measuring; with room made, the same
    command ends with the weights and the tables of one that was not interrupted."""
    part, folder = 'home full while preparing', Path(folder)
    whole = _prepared(folder/'whole')
    needed = sum(-(-p.stat().st_size//4096)*4096 for p in (folder/'whole').rglob('*') if p.is_file())
    for k, size in enumerate(np.linspace(16_384, needed, n).astype(int).tolist()):
        home, said = folder/f'home-{k}', folder/f'said-{k}'
        home.mkdir()
        with disk_of(home, size) as mounted:
            text = _clear_or_done(home, said, None if mounted else size//n)
            clear = text.startswith('True') and str(home) in text
            campaign.note(part, RIGHT if not text else CLEAR if clear else TRACEBACK, f'{size} {text}')
            left = [*home.rglob('.*.tmp')]
            campaign.note(part, SILENT if left else RIGHT, f'{size} {left}')
            if mounted: subprocess.run(['mount', '-o', 'remount,size=1G', home], check=True)
            try: same = _prepared(home) == whole
            except Exception as e: campaign.note(part, TRACEBACK, f'{size} with room made: {e!r}')
            else: campaign.note(part, RIGHT if same else SILENT, f'{size} with room made')
        shutil.rmtree(home)

ALL = dict(errors=errors, deaths=deaths, sizes=sizes, power=power_cuts, full_homes=full_homes)
