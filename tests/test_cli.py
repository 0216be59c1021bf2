"""The command line as a user meets it: messages, the progress bar, and a study that is killed and
gone on with."""
import fcntl, os, pty, signal, struct, subprocess, sys, termios, time
import psutil
from diffcirc.core import preset

def env(tmp_path, **kw):
    e = {k: v for k, v in os.environ.items()
         if k not in ('IN_TEST', 'DIFFCIRC_BOOK', 'DIFFCIRC_CELEBA')}
    ours = dict(DIFFCIRC_HOME=str(tmp_path/'home'), DIFFCIRC_PRESET='smoke', DIFFCIRC_NATURAL='orl',
                OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1', CUDA_VISIBLE_DEVICES='')
    return e | ours | kw

CLI = [sys.executable, '-m', 'diffcirc.cli']

def run(tmp_path, *args, **kw):
    return subprocess.run([*CLI, *args], env=env(tmp_path, **kw), capture_output=True, text=True)

def test_a_wrong_setting_is_one_sentence(tmp_path):
    r = run(tmp_path, 'prepare', DIFFCIRC_PRESET='huge')
    assert r.returncode == 1 and 'DIFFCIRC_PRESET' in r.stderr and 'Traceback' not in r.stderr
    r = run(tmp_path, 'prepare', DIFFCIRC_NATURAL='celeba', DIFFCIRC_CELEBA=str(tmp_path/'nowhere'))
    assert r.returncode == 1 and 'nowhere' in r.stderr and 'Traceback' not in r.stderr

def test_help_names_the_commands(tmp_path):
    r = run(tmp_path, '--help')
    assert r.returncode == 0 and '\x1b' not in r.stdout
    for name in ('prepare', 'train', 'execute', 'status', 'snapshot', 'reference', '--preset'):
        assert name in r.stdout
    assert 'benchmarks/snapshots.csv' in run(tmp_path, 'snapshot', '--help').stdout
    assert 'benchmarks/reference' in run(tmp_path, 'reference', '--help').stdout

def test_an_unknown_preset_or_dataset_says_which_exist(tmp_path):
    r = run(tmp_path, '--preset', 'huge', 'status')
    assert r.returncode == 2 and 'Traceback' not in r.stderr
    assert all(name in r.stderr for name in ('smoke', 'cpu', 'gpu', 'paper'))
    r = run(tmp_path, 'train', '--dataset', 'dogs')
    assert r.returncode == 2 and 'synthetic' in r.stderr and 'natural' in r.stderr

def test_the_preset_named_wins_over_the_environment(tmp_path):
    r = run(tmp_path, '--preset', 'smoke', 'status', DIFFCIRC_PRESET='huge')
    assert r.returncode == 0 and r.stdout == '' and r.stderr == ''

def test_the_entry_point_is_the_module(tmp_path):
    code = ('import sys; sys.argv = ["diffcirc", "status"]; '
            'from diffcirc.cli import main; print(main())')
    r = subprocess.run([sys.executable, '-c', code], env=env(tmp_path), capture_output=True,
                       text=True)
    assert r.returncode == 0 and r.stdout == 'None\n'

def test_ctrl_c_says_how_to_go_on(tmp_path):
    def heed():  # a shell's background jobs, and so their children, ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    p = subprocess.Popen([*CLI, 'train'], env=env(tmp_path), stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    deadline = time.time() + 60
    while not (tmp_path/'home'/'runs').exists() and time.time() < deadline: time.sleep(.05)
    p.send_signal(signal.SIGINT)
    _, said = p.communicate(timeout=60)
    assert p.returncode == 1 and 'Traceback' not in said
    assert 'the same command goes on from here' in said

def test_a_killed_study_leaves_no_process_behind_and_goes_on(tmp_path):
    p = subprocess.Popen([*CLI, 'prepare'], env=env(tmp_path), stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    runs, deadline = tmp_path/'home'/'runs', time.time() + 120
    while not (runs.exists() and any(runs.iterdir())) and time.time() < deadline: time.sleep(.05)
    children = psutil.Process(p.pid).children(recursive=True)
    assert children or os.cpu_count() == 1  # else nothing would be shown
    p.send_signal(signal.SIGKILL)
    p.communicate()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, alive
    r = run(tmp_path, 'prepare', '--train-only')  # `make fuzz` kills measuring too
    assert r.returncode == 0 and '4 trained models' in r.stdout, r.stderr[-2000:]
    assert '%|' not in r.stderr  # nobody watches a pipe: no bar
    lines = run(tmp_path, 'status').stdout.splitlines()
    whole = [l for l in lines if f"{preset('smoke').steps} steps" in l]  # others: for growth
    assert len(whole) == 4 < len(lines) and all('parameters' in l for l in lines)

def test_in_a_terminal_there_is_one_bar_with_rate_and_loss(tmp_path):
    main, sub = pty.openpty()
    fcntl.ioctl(sub, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 110, 0, 0))
    p = subprocess.Popen([*CLI, 'train'], env=env(tmp_path), stdout=subprocess.DEVNULL, stderr=sub)
    os.close(sub)
    out = b''
    while True:
        try: chunk = os.read(main, 4096)
        except OSError: break
        if not chunk: break
        out += chunk
    assert p.wait(60) == 0
    text = out.decode(errors='replace')
    assert '100%' in text and 'images/s' in text and 'loss=' in text and text.count('100%') <= 3

def test_a_finished_book_is_recognized_until_something_changes(tmp_path):
    project = tmp_path/'project'
    (project/'nbs').mkdir(parents=True)
    (project/'nbs'/'a.ipynb').write_text('{}')
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    def finished(*args, **kw):
        r = subprocess.run([*CLI, 'finished', *args], env=env(tmp_path, PYTHONPATH=here, **kw),
                           capture_output=True, text=True, cwd=project)
        assert 'Traceback' not in r.stderr
        return r.returncode
    # what differs in which way is asked in the notebook of `book.finished`
    assert finished() == 3 and finished('--keep') == 0 and finished() == 0
    assert finished('--', '-W -n') == 3
    (project/'nbs'/'a.ipynb').write_text('{"cells": []}')
    r = subprocess.run([*CLI, 'finished', '--keep'], env=env(tmp_path, PYTHONPATH=here),
                       capture_output=True, text=True, cwd=project)
    assert r.returncode == 0 and 'make book' in r.stdout
