"A cached result is found by what made it: what changes its key, and what does not."
import pytest
from diffcirc import core
from diffcirc.circuits import temporal
from diffcirc.core import code_key, reached
from diffcirc.study.jobs import FRAME

A = '''
from .b import double

LEVEL = 3

def instrument(x, y=LEVEL):
    "Measures."
    return double(x) + helper(y)

def helper(y): return y + 1

def reading(table): return table.mean()
'''
B = '''
def double(x): return twice(x)

def twice(x): return 2*x
'''

@pytest.fixture
def package(tmp_path, monkeypatch):
    "A package of the test's own: write(module=text) → key of a.instrument."
    doors = core._file('doors').read_text()
    monkeypatch.setattr(core, '_folder', lambda: tmp_path)
    def write(**modules):
        for f in tmp_path.rglob('*.py'): f.unlink()
        for name, text in dict(modules, doors=doors).items():
            path = tmp_path/f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        for cached in (core._read, core._closure, core._code_key, core._doors): cached.cache_clear()
        return code_key('a.instrument')
    return write

def test_everything_reached_is_in_the_key(package):
    package(a=A, b=B)
    names = {n for _, n in reached('a.instrument')}
    assert names == {'instrument', 'helper', 'LEVEL', 'double', 'twice'}

@pytest.mark.parametrize('what, change', [
    ('a reading of the table', lambda a, b: dict(
        a=a.replace('table.mean()', 'table.median()'), b=b)),
    ('a docstring', lambda a, b: dict(a=a.replace('Measures.', 'Measures it.'), b=b)),
    ('an annotation', lambda a, b: dict(
        a=a.replace('def helper(y)', 'def helper(y: int) -> int'), b=b)),
    ('a check of an argument', lambda a, b: dict(
        a=a.replace('    return double', "    real(x, 'x', 0)\n    return double"), b=b)),
    ('a comment and a line break', lambda a, b: dict(
        a=a.replace('return double(x) + helper(y)',
                    'return (double(x)  # why\n            + helper(y))'), b=b)),
    ('where an import stands', lambda a, b: dict(
        a=a.replace('from .b import double', '').replace(
            '    return double', '    from .b import double\n    return double'), b=b)),
    ('a module that moves', lambda a, b: dict(a=a.replace('.b', '.wing.c'), wing__c=b)),
    ('a definition that moves', lambda a, b: dict(
        a=a, b='from .c import twice\n' + b.split('def twice')[0],
        c='def twice' + b.split('def twice')[1])),
    ('another name for an import', lambda a, b: dict(a=a, b=b, c='import math\n'))])
def test_what_does_not_change_a_key(package, what, change):
    before = package(a=A, b=B)
    assert package(**change(A, B)) == before, what

@pytest.mark.parametrize('change', [
    lambda a, b: dict(a=a, b=b.replace('2*x', '3*x')),                # at depth two
    lambda a, b: dict(a=a.replace('LEVEL = 3', 'LEVEL = 4'), b=b),    # a constant
    lambda a, b: dict(a=a.replace('y + 1', 'y - 1'), b=b),            # beside it
    # something put onto a definition
    lambda a, b: dict(a=a, b=b + '\ntwice.__wrapped__ = None\n')])
def test_what_changes_a_key(package, change):
    assert package(a=A, b=B) != package(**change(A, B))

def test_a_job_depends_on_precision_network_and_denoiser():
    names = {n for _, n in reached(*FRAME)}
    assert {'full_precision', 'keep_big_buffers', 'UNet', 'Denoiser', 'Exam', 'untrained'} <= names

def test_editing_a_reading_measures_nothing_again():
    "The old key of `component_impacts` changed with every reading in its module."
    names = {n for _, n in reached(temporal.component_impacts)}
    assert 'component_impacts' in names
    assert not names & {'phase_boundaries', 'stability', 'metric_curves'}
