"""Jobs for the workers of test_cluster.py, which find this file on their path."""
import os, signal
from pathlib import Path
from diffcirc.core import atomic_write, home
from diffcirc.study.parallel import tell

def double(x):
    tell(x)
    return 2*x

def write(x):
    "A file in the cache; its path."
    return atomic_write(home()/'tables'/f'{x}.txt', str(x))

def read(path): return path.read_text() + ' read'

def die_once(job):
    "Kills its process when it is first called."
    mark, x = job
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x

def fail_until(job):
    "Fails at the first so many calls."
    folder, times = job
    n = len(list(Path(folder).glob('failed*')))
    if n < times:
        (Path(folder)/f'failed{n}').touch()
        raise ValueError('this job fails')
    return n

def whose(x): return os.getpid()
