"""Renews lock/: the files of the packages that constraints.txt names, by their hashes, for Linux
on x86-64 and Python 3.11 to 3.13. `make lock` runs this with a uv of its own."""
import hashlib, re, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GPU = re.compile(r'nvidia-|cuda-|triton==')  # what torch brings with it from PyPI
HEAD = '# {}\n# Written by `make lock` from pyproject.toml and constraints.txt.\n'

def resolved(uv) -> list[str]:
    "One block of text per package: its version, marker and hashes."
    done = subprocess.run([uv, 'pip', 'compile', '-q', 'pyproject.toml', '--extra', 'dev',
                           '-c', 'constraints.txt', '--universal', '--python-version', '3.11',
                           '--default-index', 'https://pypi.org/simple', '--generate-hashes',
                           '--no-header', '--no-annotate', '--no-emit-index-url', '--no-config',
                           '--no-sources'], cwd=ROOT, text=True, capture_output=True)
    if done.returncode: sys.exit(done.stderr)
    return re.split(r'\n(?=\S)', done.stdout.strip())

def elsewhere(block) -> bool:
    "Whether a package is for another system than Linux."
    marker = block.split('\n')[0].partition(';')[2]
    return bool(re.search(r"== '(darwin|win32|nt|emscripten)'", marker))

def cpu_build(version) -> str:
    "The hash of the CPU build of torch that this machine's pip finds; '' where it finds none."
    with tempfile.TemporaryDirectory() as d:
        subprocess.run([sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '-d', d,
                        f'torch=={version}+cpu'], capture_output=True)
        return next((hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(d).iterdir()), '')

def write(name, about, blocks):
    (ROOT/'lock'/name).write_text(HEAD.format(about) + '\n'.join(blocks) + '\n')

def main(uv):
    blocks = [b for b in resolved(uv) if not elsewhere(b)]
    torch = next(b for b in blocks if b.startswith('torch=='))
    gpu = [b for b in blocks if GPU.match(b)]
    write('packages.txt', 'All packages but torch and what it brings with it.',
          [b for b in blocks if b is not torch and b not in gpu])
    write('torch-cuda.txt', 'torch as PyPI has it, with its packages for GPUs.', [torch, *gpu])
    version = re.match(r'torch==([\d.]+)', torch)[1]
    kept = ROOT/'lock'/'torch-cpu.txt'
    known = re.findall(r'sha256:(\w+)', kept.read_text()) if kept.exists() and \
        f'torch=={version}+cpu' in kept.read_text() else []
    hashes = sorted({*known, cpu_build(version)} - {''})
    lines = [f'torch=={version}+cpu', *(f'    --hash=sha256:{h}' for h in hashes)]
    if hashes: write('torch-cpu.txt', 'torch for CPUs alone, where pip finds such a build.',
                     [' \\\n'.join(lines)])

if __name__ == '__main__': main(sys.argv[1])
