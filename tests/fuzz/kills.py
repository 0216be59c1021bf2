"""Processes killed at random moments: a training, one of the processes that share it, the execution
and the rendering of pages, a worker; afterwards the same command ends with the same weights and the
same pages."""
import multiprocessing as mp, os, random, re, shutil, signal, socket, subprocess, sys, time
from pathlib import Path
import nbformat, yaml
import torch
from diffcirc.core import elsewhere
from diffcirc.denoiser.training import find_run, train
from .files import toy_config, toy_faces
from .outcomes import CLEAR, RIGHT, SILENT, TRACEBACK, is_clear, quiet

ROOT = Path(__file__).resolve().parents[2]

def _train(folder, steps):
    torch.set_num_threads(1)
    with elsewhere(folder), quiet(): train(toy_faces(), toy_config(steps=steps), 'cpu', checkpoint_s=0.)

def _killed_after(seconds, *job):
    "Start a job in a process of its own and kill it; whether it was still running."
    p = mp.get_context('fork').Process(target=_train, args=job)
    p.start()
    p.join(seconds)
    running = p.is_alive()
    if running: os.kill(p.pid, signal.SIGKILL)
    p.join()
    return running

def trainings(campaign, folder, n, steps=40):
    "A training killed at n random moments ends with the weights of one that was not."
    part, g = 'training killed', random.Random(0)
    began = time.monotonic()
    _train(Path(folder)/'whole', steps)
    took = time.monotonic() - began
    with elsewhere(Path(folder)/'whole'): whole = find_run(toy_faces(), toy_config(steps=steps))
    done = 0
    while done < n:
        home = Path(folder)/f'home-{done}'
        for _ in range(3):  # three kills of one training, where it lasts so long
            done += _killed_after(g.uniform(.1, .8)*took, home, steps)
        with elsewhere(home), quiet():
            try: run = train(toy_faces(), toy_config(steps=steps), 'cpu', checkpoint_s=0.)
            except Exception as e: campaign.note(part, TRACEBACK, repr(e))
            else:
                same = run.weights == whole.weights and run.record.equals(whole.record)
                left = [p.name for p in run.folder.rglob('*') if p.name.endswith('.tmp')]
                campaign.note(part, RIGHT if same and not left else SILENT, f'{home} {left}')
        shutil.rmtree(home)

# --- several processes ----------------------------------------------------------------------------

def _rank(folder, steps, rank, port):
    "One of two processes that train together; what stops it is kept beside the home."
    os.environ |= dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', LOCAL_WORLD_SIZE='2',
                       MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES='')
    try: _train(folder, steps)
    except Exception as e:
        Path(f'{folder}-said-{rank}').write_text(f'{is_clear(e)} {type(e).__name__}: {e}')
        os._exit(1)

def _two(folder, steps) -> list:
    "Both processes, started."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    both = [mp.get_context('fork').Process(target=_rank, args=(folder, steps, rank, port),
                                              daemon=True)
            for rank in (0, 1)]
    for p in both: p.start()
    return both

def _both(folder, steps):
    "Both processes, to their end; they are stopped where they come to none."
    both = _two(folder, steps)
    for p in both:
        p.join(300)
        p.kill()

def _one_lost(folder, steps, after, which) -> str:
    """Kill one of two processes after so many seconds; what the other says then, '' when it ended
    before. One that waits for a start that never comes is stopped, as a launcher does."""
    both = _two(folder, steps)
    both[which].join(after)
    both[which].kill()
    other = both[1 - which]
    other.join(60)
    if other.is_alive(): other.terminate()
    other.join()
    said = Path(f'{folder}-said-{1 - which}')
    return said.read_text() if said.exists() else ''

def ranks(campaign, folder, n, steps=30):
    "One of two processes of a training killed; both are started again."
    import accelerate, torch.distributed  # noqa: F401 here once and not in every process
    part, g, folder = 'one of two processes killed', random.Random(0), Path(folder)
    cfg, began = toy_config(steps=steps), time.monotonic()
    _both(folder/'whole', steps)
    took = time.monotonic() - began
    with elsewhere(folder/'whole'): whole = find_run(toy_faces(), cfg)
    for k in range(n):
        home = folder/f'home-{k}'
        said = _one_lost(home, steps, g.uniform(.3, .95)*took, k % 2)
        if said: campaign.note(part, CLEAR if said.startswith('True') else TRACEBACK, said)
        _both(home, steps)
        with elsewhere(home), quiet(): run = find_run(toy_faces(), cfg)
        same = run and run.weights == whole.weights and run.record.equals(whole.record)
        campaign.note(part, RIGHT if same else SILENT if run else TRACEBACK, f'{home} {said}')

# --- pages ----------------------------------------------------------------------------------------

PAGES = {'index': ['1 + 1', 'print("the first page")'],
         'nbs/one': ['import time', 'time.sleep(.3)', 'print(sum(range(10)))'],
         'nbs/two': ['print("two")', 'time = 2', 'print(time*3)']}

def small_book(folder, pages=None):
    "A book of three pages in a folder, with the project's own settings."
    folder, pages = Path(folder), pages or PAGES
    (folder/'nbs').mkdir(parents=True)
    for name, cells in pages.items():
        nb = nbformat.v4.new_notebook()
        nb.cells = [nbformat.v4.new_markdown_cell(f'# {name}'),
                    *map(nbformat.v4.new_code_cell, cells)]
        nb.metadata['kernelspec'] = dict(name='python3', display_name='python3')
        for i, c in enumerate(nb.cells): c['id'] = f'c{i}'
        nbformat.write(nb, folder/f'{name}.ipynb')
    others = [dict(file=name) for name in pages if name != 'index']
    toc = dict(format='jb-book', root='index') | ({'parts': [{'chapters': others}]} if others else {})
    (folder/'_toc.yml').write_text(yaml.safe_dump(toc))
    settings = yaml.safe_load((ROOT/'_config.yml').read_text())
    (folder/'_config.yml').write_text(yaml.safe_dump(settings, allow_unicode=True))
    shutil.copytree(ROOT/'_static', folder/'_static')
    shutil.copy(ROOT/'references.bib', folder)
    return folder

EXECUTE = [sys.executable, '-m', 'diffcirc.cli', 'execute']
RENDER = [str(Path(sys.executable).parent/'jupyter-book'), 'build', '.']

def _start(command, book, home):
    "A step of `make book`, in a process group of its own."
    env = os.environ | dict(DIFFCIRC_HOME=str(home), PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1',
                            DIFFCIRC_PRESET='smoke', HF_HUB_OFFLINE='1', DIFFCIRC_NATURAL='orl')
    env.pop('DIFFCIRC_PARTS', None)
    return subprocess.Popen(command, cwd=book, env=env, text=True, start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

def _finished(command, book, home) -> float:
    "The same to its end; the seconds that it took."
    began = time.monotonic()
    p = _start(command, book, home)
    said = p.communicate(timeout=900)
    assert p.returncode == 0, said[1][-2000:]
    return time.monotonic() - began

def _killed(command, book, home, after, alone):
    """Kill a step after so many seconds, or as soon as `after()` says so, `alone` or with all that
    it has started."""
    p = _start(command, book, home)
    if callable(after):
        while not after():
            assert p.poll() is None, p.communicate()[1][-2000:]
            time.sleep(.05)
    else: time.sleep(after)
    try: (os.kill if alone else os.killpg)(p.pid, signal.SIGKILL)
    except ProcessLookupError: pass  # it had ended
    p.communicate()

def _outputs(book) -> dict:
    "What the cells of every page show, from the cache of the book."
    from jupyter_cache import get_cache
    cache, out = get_cache(book/'_build'/'.jupyter_cache'), {}
    for r in cache.list_cache_records():
        nb = cache.get_cache_bundle(r.pk).nb
        code = [c for c in nb.cells[:-1] if c.cell_type == 'code']
        shown = [o.get('text', '') for c in code for o in c.outputs]
        out[Path(r.uri).name] = ''.join(shown)
    return out

def rendered(book) -> dict:
    "The pages of a book and what lies beside them, without the time at which they were made."
    html = book/'_build'/'html'
    kinds = {'.html', '.js', '.css', '.json', '.csv', '.svg', '.inv'}
    found = {p.relative_to(html).as_posix(): p.read_bytes() for p in sorted(html.rglob('*'))
             if p.suffix in kinds and p.is_file()}
    return {name: re.sub(rb'20\d\d-\d\d-\d\d[T ]?[\d:.]*', b'', b) for name, b in found.items()}

def _again(campaign, part, command, book, home, right, found):
    "The command once more: what is `found` then is `right`."
    p = _start(command, book, home)
    err = p.communicate(timeout=900)[1]
    same = not p.returncode and found(book) == right
    campaign.note(part, RIGHT if same else TRACEBACK if p.returncode else SILENT, err[-400:])

def executions(campaign, folder, n):
    "The execution of the pages killed at n random moments, with all its kernels or without them."
    g, folder = random.Random(0), Path(folder)
    whole = small_book(folder/'whole')
    took = _finished(EXECUTE, whole, folder/'home')
    right = _outputs(whole)
    assert len(right) == len(PAGES)
    for k in range(n):
        book, home = small_book(folder/f'book-{k}'), folder/f'home-{k}'
        _killed(EXECUTE, book, home, g.uniform(.2, .95)*took, not k % 2)
        _again(campaign, 'execution of pages killed', EXECUTE, book, home, right, _outputs)
        shutil.rmtree(book)

def renderings(campaign, folder, n):
    "The rendering of executed pages killed at n random moments, once or again and again."
    g, folder = random.Random(0), Path(folder)
    whole, home = small_book(folder/'whole'), folder/'home'
    _finished(EXECUTE, whole, home)
    shutil.copytree(whole, folder/'executed')
    took = _finished(RENDER, whole, home)
    right = rendered(whole)
    assert {f'{name}.html' for name in PAGES} <= right.keys()
    for k in range(n):
        if not k % 2: book = shutil.copytree(folder/'executed', folder/f'book-{k}')
        _killed(RENDER, book, home, g.uniform(.2, 1.)*took, not k % 3)
        if k % 2 or k == n - 1:
            _again(campaign, 'rendering killed', RENDER, book, home, right, rendered)
            shutil.rmtree(book)

def two_builds(campaign, folder, n):
    """Two executions at once and then two renderings, in one checkout, and in two with a home each
    on one file system."""
    part, folder = 'two builds at once', Path(folder)
    for name, homes in (('shared', ('home', 'home')), ('apart', ('home-a', 'home-b'))):
        book = small_book(folder/name)
        books = [book, book] if name == 'shared' else [book, small_book(folder/f'{name}-2')]
        for command in (EXECUTE, RENDER):
            both = [_start(command, b, folder/h) for b, h in zip(books, homes)]
            said = [p.communicate(timeout=900)[1] for p in both]
            for p, b, err in zip(both, books, said):
                campaign.note(part, TRACEBACK if p.returncode else _as_alone(b), err[-600:])

def _as_alone(book) -> str:
    "Whether every page is there once, with what its cells print."
    shown = _outputs(book)
    if {n.split('.')[0] for n in shown} != {n.split('/')[-1] for n in PAGES}: return SILENT
    if not (book/'_build'/'html').exists(): return RIGHT
    pages = rendered(book)
    for name in PAGES:
        text = re.sub(rb'<[^>]*>', b'', pages.get(f'{name}.html', b'')).decode()
        said = shown[f"{name.split('/')[-1]}.ipynb"].split()
        if not all(line in text for line in said): return SILENT
    return RIGHT

def _many(n):
    "A job that is killed, as the kernel kills for memory."
    os.kill(os.getpid(), signal.SIGKILL)

ALL = dict(trainings=trainings, ranks=ranks, executions=executions, renderings=renderings,
           two_builds=two_builds)
