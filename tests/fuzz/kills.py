"""Processes killed at random moments: a training, the execution of pages, a worker; afterwards the
same command ends with the same weights and the same pages."""
import multiprocessing as mp, os, random, shutil, signal, subprocess, sys, time
from pathlib import Path
import nbformat
import torch
from diffcirc.core import elsewhere
from diffcirc.denoiser.training import find_run, train
from .files import toy_config, toy_faces
from .outcomes import RIGHT, SILENT, TRACEBACK, quiet

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

PAGES = {'index': ['1 + 1', 'print("the first page")'],
         'nbs/one': ['import time', 'time.sleep(.3)', 'print(sum(range(10)))'],
         'nbs/two': ['print("two")', 'time = 2', 'print(time*3)']}

def small_book(folder):
    "A book of three pages in a folder."
    folder = Path(folder)
    (folder/'nbs').mkdir(parents=True)
    for name, cells in PAGES.items():
        nb = nbformat.v4.new_notebook()
        nb.cells = [nbformat.v4.new_markdown_cell(f'# {name}'),
                    *map(nbformat.v4.new_code_cell, cells)]
        nb.metadata['kernelspec'] = dict(name='python3', display_name='python3')
        for i, c in enumerate(nb.cells): c['id'] = f'c{i}'
        nbformat.write(nb, folder/f'{name}.ipynb')
    (folder/'_toc.yml').write_text('format: jb-book\nroot: index\nparts:\n- chapters:\n'
                                   '  - file: nbs/one\n  - file: nbs/two\n')
    return folder

RUN = "from diffcirc.book.build import run_pages; print(sorted(run_pages(workers=2)))"

def _execute(book, home):
    env = os.environ | dict(DIFFCIRC_HOME=str(home), PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1',
                            DIFFCIRC_PRESET='smoke', HF_HUB_OFFLINE='1', DIFFCIRC_NATURAL='orl')
    return subprocess.Popen([sys.executable, '-c', RUN], cwd=book, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)

def _outputs(book) -> dict:
    "What the cells of every page show, from the cache of the book."
    from jupyter_cache import get_cache
    cache, out = get_cache(book/'_build'/'.jupyter_cache'), {}
    for r in cache.list_cache_records():
        nb = cache.get_cache_bundle(r.pk).nb
        shown = [o.get('text', '') for c in nb.cells[:-1] if c.cell_type == 'code' for o in c.outputs]
        out[Path(r.uri).name] = ''.join(shown)
    return out

def executions(campaign, folder, n):
    "The execution of the pages killed at n random moments, with all its kernels or without them."
    part, g, folder = 'execution of pages killed', random.Random(0), Path(folder)
    whole = small_book(folder/'whole')
    began = time.monotonic()
    p = _execute(whole, folder/'home')
    said = p.communicate(timeout=400)
    assert p.returncode == 0, said[1][-2000:]
    took, right = time.monotonic() - began, _outputs(whole)
    assert len(right) == len(PAGES)
    for k in range(n):
        book = small_book(folder/f'book-{k}')
        p = _execute(book, folder/f'home-{k}')
        time.sleep(g.uniform(.2, .95)*took)
        if k % 2: os.killpg(p.pid, signal.SIGKILL)  # with its workers
        else: p.kill()
        p.communicate()
        again = _execute(book, folder/f'home-{k}')
        err = again.communicate(timeout=400)[1]
        same = again.returncode == 0 and _outputs(book) == right
        campaign.note(part, RIGHT if same else TRACEBACK if again.returncode else SILENT, err[-400:])

def two_builds(campaign, folder, n):
    "Two executions at once in one checkout, and two with a home each on one file system."
    part, folder = 'two builds at once', Path(folder)
    for name, homes in (('shared', ('home', 'home')), ('apart', ('home-a', 'home-b'))):
        book = small_book(folder/name)
        books = [book, book] if name == 'shared' else [book, small_book(folder/f'{name}-2')]
        both = [_execute(b, folder/h) for b, h in zip(books, homes)]
        for p, b in zip(both, books):
            err = p.communicate(timeout=400)[1]
            found = {name: text.split('\n')[:-1] for name, text in _outputs(b).items()}
            whole = not p.returncode and len(found) == len(PAGES)
            campaign.note(part, RIGHT if whole else TRACEBACK, err[-400:])

def _many(n):
    "A job that is killed, as the kernel kills for memory."
    os.kill(os.getpid(), signal.SIGKILL)

ALL = dict(trainings=trainings, executions=executions, two_builds=two_builds)
