"""The rules of the house: who may know whom, no circles, nothing imported inside functions, pages
in the order of a reader."""
import ast, json, re, statistics
from functools import lru_cache
from pathlib import Path
import pytest, yaml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT/'diffcirc'
FOR_ALL = {'doors'}  # what every wing may import
MAY_KNOW = {  # wing → wings that it may import
    'doors': set(),
    'core': set(),
    'statistics': set(),
    'faces': {'core'},
    'denoiser': {'core'},
    'circuits': {'denoiser', 'statistics'},
    'study': {'core', 'faces', 'denoiser', 'statistics'},
    'concepts': {'core', 'denoiser', 'statistics', 'circuits'},
    'latents': {'core', 'faces', 'denoiser', 'statistics', 'circuits', 'study'},
    'trust': {'core', 'denoiser', 'statistics', 'circuits'},
    'book': {'core', 'faces', 'denoiser', 'statistics', 'study', 'circuits', 'concepts', 'latents',
             'trust'},
    'cli': {'core', 'faces', 'denoiser', 'study', 'book'}}
# imported inside a function on purpose: a command starts fast, Sphinx loads its extension for every
# build
LATE = {'cli', 'book.build'}

def name_of(path): return '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)

@lru_cache
def modules():
    "{module below diffcirc: syntax tree}"
    return {name_of(p): ast.parse(p.read_text()) for p in sorted(PACKAGE.rglob('*.py'))
            if p.name not in ('__init__.py', '_modidx.py')}

def resolve(module, node):
    "Modules of this package that an import statement of `module` brings."
    if isinstance(node, ast.Import):
        return [a.name.removeprefix('diffcirc.') for a in node.names
                if a.name.startswith('diffcirc.')]
    base = module.split('.')[:-node.level] if node.level else []
    if not node.level and (node.module or '').split('.')[0] != 'diffcirc': return []
    inner = (node.module or '').removeprefix('diffcirc').strip('.')
    path = '.'.join([*base, *inner.split('.')]).strip('.')
    whole = [f'{path}.{a.name}'.strip('.') for a in node.names]
    return [w if w in modules() else path for w in whole if w in modules() or path in modules()]

@lru_cache
def arrows(everywhere=True):
    "{module: modules it imports}, at the top or anywhere."
    return {m: {r for n in (ast.walk(t) if everywhere else t.body)
                if isinstance(n, (ast.Import, ast.ImportFrom)) for r in resolve(m, n)} - {m}
            for m, t in modules().items()}

def wing(module): return module.split('.')[0]

def test_rooms_know_only_their_own():
    bad = [f'{m} → {r}' for m, rs in arrows().items() for r in rs
           if wing(r) != wing(m) and wing(r) not in MAY_KNOW[wing(m)] | FOR_ALL]
    assert not bad, 'arrows that go up: ' + ', '.join(sorted(bad))

def test_doors_only_stop_a_call():
    "What keys of the cache leave out: no check whose error is caught, none that binds a name."
    names = next(n.value for n in modules()['doors'].body if isinstance(n, ast.Assign))
    doors = set(ast.literal_eval(names))
    def door(n):
        return (isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)
                and getattr(n.value.func, 'id', '') in doors)
    for m, tree in modules().items():
        tried = [n for n in ast.walk(tree) if isinstance(n, ast.Try)]
        caught = [k for n in tried for b in n.body for k in ast.walk(b) if door(k)]
        binds = [n for n in ast.walk(tree)
                 if door(n) and any(isinstance(k, ast.NamedExpr) for k in ast.walk(n))]
        assert not caught + binds, m

def test_no_circles():
    done, path = set(), []
    def visit(m):
        assert m not in path, 'circle: ' + ' → '.join([*path[path.index(m):], m])
        if m in done: return
        path.append(m)
        for r in sorted(arrows()[m]): visit(r)
        done.add(path.pop())
    for m in arrows(): visit(m)

def test_imports_stand_at_the_top():
    top, all_ = arrows(False), arrows(True)
    late = [f'{m} → {r}' for m in all_ if m not in LATE for r in all_[m] - top[m]]
    assert not late, late

def test_instruments_take_a_denoiser_and_an_exam():
    "Rule 1: no module of the instruments so much as names a study, a page or a cache."
    for m, tree in modules().items():
        if wing(m) not in ('circuits', 'concepts'): continue
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        assert not names & {'Study', 'study', 'cached_table', 'home', 'Job', 'compute',
                            'use_style'}, m

def test_one_name_one_meaning():
    "No two modules export the same name."
    owner = {}
    for m, tree in modules().items():
        for n in tree.body:
            if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '') == '__all__':
                for name in ast.literal_eval(n.value): owner.setdefault(name, []).append(m)
    twice = {k: v for k, v in owner.items() if len(v) > 1}
    assert not twice, twice

# ------------------------------------------------------------------ notebooks

def notebooks():
    return sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if 'checkpoints' not in str(p))

def without_suffix(path, folder): return path.relative_to(folder).with_suffix('').as_posix()

def parsed(source):
    "The syntax tree of a cell, its magics left out."
    lines = ('pass' if l.startswith(('%', '!')) else l for l in source.splitlines())
    return ast.parse('\n'.join(lines))

def code_cells(path):
    for i, c in enumerate(json.loads(path.read_text())['cells']):
        if c['cell_type'] == 'code': yield i, ''.join(c['source'])

def test_notebooks_mirror_the_package():
    for p in notebooks():
        exported = [m[1] for _, s in code_cells(p)
                    if (m := re.search(r'#\|\s*default_exp (\S+)', s))]
        if exported: assert exported[0].replace('.', '/') == without_suffix(p, ROOT/'nbs')

def parts():
    "Pages as they are read: {caption of a part: its pages}."
    toc = yaml.safe_load((ROOT/'_toc.yml').read_text())
    return {part['caption']: [c['file'] for c in part['chapters']] for part in toc['parts']}

def in_order(): return [f for files in parts().values() for f in files]

def test_every_notebook_is_a_page():
    pages = {*in_order(), 'nbs/index'}
    assert pages == {without_suffix(p, ROOT) for p in [*notebooks(), *(ROOT/'nbs').rglob('*.md')]}

# Pages once stood in the order of their imports, each using what earlier ones had made. The book
# then began with fourteen chapters of apparatus, and its first result came after them. Whoever
# reads wants what was found, why to believe it, and how it was made, in this order; a page links
# to what it uses. That modules import downwards only is a matter of wings (above), not of pages.
ORDER = ('How a claim is judged', 'The paper, answered', 'Can the instruments be trusted?',
         'Audit and ledger', 'Beyond the paper', 'Circuits', 'Concepts', 'Companion systems',
         'Methods', 'Apparatus', 'Words and sources')

def test_results_come_first_and_apparatus_last():
    assert tuple(dict.fromkeys(c.partition(':')[0] for c in parts())) == ORDER

def recording():
    "Pages that record claims of the paper."
    return [without_suffix(p, ROOT) for p in notebooks()
            if any(re.search(r'^record\(', s, re.M) for _, s in code_cells(p))]

def test_the_rule_of_verdicts_stands_before_the_first_result():
    at = {f: i for i, f in enumerate(in_order())}
    assert recording() and all(at['nbs/statistics/verdicts'] < at[f] for f in recording())

def test_what_answers_the_paper_stands_in_the_first_parts():
    answering = [f for c in ORDER[1:4:2] for f in parts()[c]]
    assert not set(recording()) - set(answering)

def test_methods_read_forwards():
    "Among themselves, pages of methods still use what stands on earlier ones."
    pages = [f for c, files in parts().items() if c.startswith('Methods') for f in files]
    order = {f.removeprefix('nbs/').replace('/', '.'): i for i, f in enumerate(pages)}
    bad = []
    for me in order:
        if wing(me) == 'book': continue
        for i, s in code_cells(ROOT/'nbs'/f"{me.replace('.', '/')}.ipynb"):
            for n in ast.walk(parsed(s)):
                if isinstance(n, (ast.Import, ast.ImportFrom)) and not getattr(n, 'level', 0):
                    bad += [f'{me}[{i}] → {r}' for r in resolve(me, n)
                            if order.get(r, -1) > order[me] and wing(r) != 'book']
    assert not bad, bad

SHOWN = {'Prose', 'Table', 'show', 'say'}

def unseen(tree):
    "Texts, tables and figures of a cell that no reader sees: only its last expression is shown."
    found = [n for top in tree.body if not isinstance(top, ast.FunctionDef | ast.ClassDef)
             for n in ast.walk(top) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)]
    return [ast.unparse(n)[:60] for n in found
            if getattr(n.value.func, 'id', '') in SHOWN and n is not tree.body[-1]]

def test_what_is_made_to_be_seen_is_seen():
    assert unseen(ast.parse("if 1: Prose('a')")) and unseen(ast.parse("show(f, 'a')\nx = 1"))
    assert not unseen(ast.parse("x = 1\nProse('a')"))
    bad = [(p.name, i, u) for p in notebooks() for i, s in code_cells(p)
           if any(f'{k}(' in s for k in SHOWN) for u in unseen(parsed(s))]
    assert not bad, bad

@pytest.fixture(scope='module')
def lengths():
    cells, widths = [], []
    for p in notebooks():
        for i, s in code_cells(p):
            # directives, and the one line by which Colab installs the package, are as they are
            lines = [l for l in s.splitlines()
                     if l.strip() and not re.match(r'\s*#\s*\||!\[ -d /content \]', l)]
            if lines: cells.append((len(lines), f'{p.name}[{i}]'))
            # the line that installs the package on Colab is the same everywhere
            widths += [(len(l), f'{p.name}[{i}]') for l in lines if not l.startswith('![')]
    return cells, widths

def test_cells_and_lines_are_short(lengths, record_property, capsys):
    cells, widths = lengths
    n = sorted(k for k, _ in cells)
    median, ninety = statistics.median(n), n[int(.9*len(n))]
    wide = [w for w in widths if w[0] > 100]
    with capsys.disabled():
        print(f'\n{len(n)} code cells: median {median:g} lines, 90 % within {ninety}, longest '
              f'{n[-1]}; {len(wide)} of {len(widths)} lines over 100 characters')
    assert median <= 6 and ninety <= 13, sorted(cells)[-10:]
    assert len(wide) <= .0025*len(widths), wide[:10]

def test_one_statement_a_line():
    bad = []
    for p in notebooks():
        for i, s in code_cells(p):
            for node in ast.walk(parsed(s)):
                bodies = [getattr(node, f, None) for f in ('body', 'orelse', 'finalbody')]
                body = [b for some in bodies if isinstance(some, list) for b in some]
                bad += [f'{p.name}[{i}]' for a, b in zip(body, body[1:])
                        if a.end_lineno == b.lineno]
    assert not bad, bad

# where what is measured is written down
LISTS = {'protocols', 'asking', 'asked_circuits', 'asked_concepts', 'asked_trust', 'asked_latents'}

def test_every_protocol_is_shown_and_nothing_is_measured_beside_them():
    "Rule 2: pages ask for tables by name, each name is asked for, and no page measures by itself."
    from types import SimpleNamespace
    from diffcirc.book.protocols import COMPUTED, SIMULATED, protocols
    from diffcirc.core import preset
    text = {p: '\n'.join(s for _, s in code_cells(p)) for p in notebooks()}
    pages = '\n'.join(t for p, t in text.items() if p.stem not in LISTS)
    named = {*protocols(SimpleNamespace(preset=preset('smoke'))), *COMPUTED, *SIMULATED}
    asked = {n for n in named if f"table('{n}'" in pages}
    drawn = {'drawn', 'drawn by DDIM'}  # asked for by `study.samples.draw`, which knows them alone
    assert named - asked == drawn
    for p, t in text.items():
        if without_suffix(p, ROOT/'nbs') in ('study/jobs', 'study/samples'): continue
        assert not re.search(r'\b(measure|jobs|Job|Computation)\(', t) or p.stem in LISTS, p

def test_classes_are_written_in_one_place():
    "Nothing is assigned onto a class from outside."
    bad = [f'{m}: {ast.unparse(n)}' for m, tree in modules().items() for n in tree.body
           if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Attribute)]
    assert not bad, bad
