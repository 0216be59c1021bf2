"The kernels of pages, when who started them is killed."
import signal, subprocess, sys, time
import pytest
pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='kernels are copied on Linux only')

SCRIPT = r'''
import nbformat
from nbclient import NotebookClient
from diffcirc.book.kernels import Kernels
asked = """import os, subprocess, time
begun = subprocess.Popen(['sleep', '600']).pid
open('pids', 'w').write(f'{os.getpid()} {os.getppid()} {begun} .')
time.sleep(600)"""
nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(asked)])
if __name__ == '__main__': NotebookClient(nb, kernel_manager_class=Kernels).execute()
'''

def alive(pid):
    try: return 'State:\tZ' not in open(f'/proc/{pid}/status').read()
    except OSError: return False

def waited(for_, seconds=90):
    until = time.monotonic() + seconds
    while not for_() and time.monotonic() < until: time.sleep(.1)
    return for_()

@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_no_kernel_outlives_its_build(tmp_path, how):
    (tmp_path/'asks.py').write_text(SCRIPT)
    build = subprocess.Popen([sys.executable, 'asks.py'], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        assert waited(lambda: (tmp_path/'pids').exists() and '.' in (tmp_path/'pids').read_text())
        kernel, server, begun = map(int, (tmp_path/'pids').read_text().split()[:3])
        assert alive(kernel) and alive(server) and alive(begun) and server != build.pid
        build.send_signal(how)
        build.wait(60)
        assert waited(lambda: not any(map(alive, (kernel, server))), 30)
        if how == signal.SIGKILL: assert waited(lambda: not alive(begun), 30)
    finally: build.kill()
