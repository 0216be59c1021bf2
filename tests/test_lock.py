"""The lock holds what constraints.txt names, and an install by it stops at an exchanged file, and
goes on by constraints.txt, with a word, where the lock does not hold."""
import os, platform, re, subprocess
from pathlib import Path
import pytest

ROOT = Path(__file__).parent.parent
GPU = re.compile('nvidia-|cuda-|triton')

def versions(text) -> dict:
    "{package: version} of a list of requirements, names as PyPI compares them."
    found = re.findall(r'^([\w.-]+)==([^\s;\\]+)', text, re.M)
    assert len({n for n, _ in found}) == len(found)
    return {re.sub('[-_.]+', '-', n).lower(): v for n, v in found}

def lock(name): return (ROOT/'lock'/f'{name}.txt').read_text()

def test_the_lock_and_the_constraints_name_the_same_versions():
    named = versions((ROOT/'constraints.txt').read_text())
    torch = {'torch': named.pop('torch')}
    cuda = versions(lock('torch-cuda'))
    assert versions(lock('packages')) == named
    assert {n: v for n, v in cuda.items() if not GPU.match(n)} == torch
    assert versions(lock('torch-cpu')) == {n: f'{v}+cpu' for n, v in torch.items()}

@pytest.mark.parametrize('name', ['packages', 'torch-cpu', 'torch-cuda'])
def test_every_file_has_a_hash_and_none_an_address(name):
    text = lock(name)
    options = re.sub(r'--hash=sha256:[0-9a-f]{64}', '', text)
    assert '//' not in text and not re.search(r'^\s*-', options, re.M)
    for block in re.split(r'\n(?=\w)', text[text.index('\n', text.index('Written')) + 1:]):
        assert '--hash=sha256:' in block, block[:60]

def installed(tmp_path, lock='lock', **fails):
    """`.ci/install` with a pip that notes what it is asked for, and says `fails[what]` and fails
    where it is asked to install `what`: (exit status, what was said, what was asked for)."""
    cases = ''.join(f"*{k.replace('_', '-')}*) echo '{said}' >&2; exit 1;; "
                    for k, said in fails.items())
    stub, asked = tmp_path/'python', tmp_path/'asked'
    stub.write_text(f'#!/bin/sh\necho "$*" >> {asked}\ncase "$*" in {cases} *) ;; esac\n')
    stub.chmod(0o755)
    command = ['bash', ROOT/'.ci'/'install', stub, lock]
    done = subprocess.run(command, text=True, capture_output=True)
    return done.returncode, done.stderr, asked.read_text().splitlines()

linux = pytest.mark.skipif((platform.system(), platform.machine()) != ('Linux', 'x86_64'),
                           reason='the lock holds for Linux on x86-64')

@linux
def test_an_install_checks_every_file(tmp_path):
    code, said, asked = installed(tmp_path)
    assert (code, said) == (0, '') and len(asked) == 4
    for line, name in zip(asked, ('packages', 'torch-cpu')):
        assert '--require-hashes' in line and line.endswith(f'lock/{name}.txt')
    assert asked[2].endswith('--no-deps --no-build-isolation -e .') and asked[3].endswith('check')

@linux
def test_without_a_build_for_cpus_the_one_of_pypi_is_taken(tmp_path):
    code, said, asked = installed(tmp_path, torch_cpu='No matching distribution found')
    assert (code, said) == (0, '') and asked[2].endswith('lock/torch-cuda.txt')

@linux
def test_an_exchanged_file_stops_the_install(tmp_path):
    code, said, asked = installed(tmp_path, packages='THESE PACKAGES DO NOT MATCH THE HASHES')
    assert code == 1 and len(asked) == 1
    assert 'damaged on its way, or exchanged' in said and 'make LOCK=' in said

@linux
@pytest.mark.parametrize('fails, why', [
    (dict(packages='No matching distribution found'), 'No matching distribution found'),
    (dict(torch_cpu='DO NOT MATCH THE HASHES'), 'is not the one that lock/ names'),
    (dict(torch_c='No matching distribution found'), 'No matching distribution found')])
def test_where_the_lock_does_not_hold_the_constraints_do(tmp_path, fails, why):
    code, said, asked = installed(tmp_path, **fails)
    assert code == 0 and asked[-1].endswith("-c constraints.txt -e .[dev]")
    assert why in said and 'without a check of their files' in said

def test_an_install_without_the_lock(tmp_path):
    code, said, asked = installed(tmp_path, lock='')
    assert code == 0 and len(asked) == 1 and 'no lock is asked for' in said
    assert os.access(ROOT/'.ci'/'install', os.X_OK)
