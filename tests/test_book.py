"The reader inside a real build: a small book of one notebook, with the project's own _config.yml."
import html, re, shutil, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path
import nbformat, pytest, yaml

ROOT = Path(__file__).parent.parent
pytest.importorskip('jupyter_book')

def build(folder, cells, strict=True):
    v4 = nbformat.v4
    cells = [v4.new_markdown_cell(c[3:]) if c.startswith('md:') else v4.new_code_cell(c)
             for c in cells]
    kernel = dict(name='python3', display_name='python3', language='python')
    nb = v4.new_notebook(cells=cells, metadata=dict(kernelspec=kernel))
    (folder/'page.ipynb').write_text(nbformat.writes(nb))
    (folder/'_toc.yml').write_text('format: jb-book\nroot: page\n')
    cfg = yaml.safe_load((ROOT/'_config.yml').read_text())
    cfg.pop('logo')
    cfg['execute']['cache'] = str(folder/'cache')
    (folder/'_config.yml').write_text(yaml.safe_dump(cfg, allow_unicode=True))
    shutil.copytree(ROOT/'_static', folder/'_static', dirs_exist_ok=True)
    shutil.copy(ROOT/'references.bib', folder)
    flags = ['-W', '-n', '--keep-going'] if strict else []
    command = [Path(sys.executable).parent/'jupyter-book', 'build', str(folder), *flags]
    r = subprocess.run(command, capture_output=True, text=True, timeout=300)
    page = folder/'_build'/'html'/'page.html'
    return r, page.read_text() if page.exists() else ''

GOOD = [
    'md:# Title\n\nSee {numref}`paper-table-9` and {numref}`fig-a`, {eq}`eq-x`.\n\n'
    '```{math}\n:label: eq-x\nx=1\n```',
    '#| default_exp page',
    '#| export\ndef exported(): return 1',
    "assert exported() == 1",
    "#| hide\nHIDDEN = 'hidden-source'",
    "#| hide\nimport pandas as pd\ndef drawing_helper(): return pd.DataFrame({'a': [1.5]})\n"
    "'hidden-output'",
    "#| hide\nrecord = print\ndef answer(): return 'not-said'\nrecord(answer())",
    "#| eval: false\nraise RuntimeError('must not run')",
    "#| gpu\nraise RuntimeError('no GPU here')",
    'import nbdev\nnbdev.nbdev_export()',
    '#| echo: false\nfrom diffcirc.book.style import Table, Prose, show, use_style\n'
    "d = drawing_helper().assign(b='<script>alert(1)</script>')\n"
    "Table(d, label='paper-table-9', caption='Recomputed.')",
    "#| echo: false\nprose_source = 6*7\nProse(f'The answer is **{prose_source}**.')",
    '#| echo: false\n#| label: fig-a\n#| fig-cap: A line: straight.\n'
    'import matplotlib.pyplot as plt\nuse_style()\nfig, ax = plt.subplots(figsize=(2, 1))\n'
    "ax.plot([0, 1])\nshow(fig, alt='line')"]

# what a file of names or a folder of faces may say
HOSTILE = ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '</td></table></script>',
           '[x](javascript:alert(1))', '![x](x){#id}', '`raw`{eval-rst}', '{glue:text}`x` {ref}`y`',
           '$\\frac{1}$ \\(x\\)', '{{ 1 }} {% x %}', '| a | b |', ':::{note}', '```{code}', '# head',
           '---', '../../x', 'a\0b', 'é\u202etxt.exe', 'two\nlines', '&lt;b&gt; &amp;', '--!>', '\\', '']
GOOD += [f"#| echo: false\nimport pandas as pd\nfrom diffcirc.book.style import Table\n"
         f"NAMES = {HOSTILE!r}\n"
         "Table(pd.DataFrame({'name': NAMES}), label='tbl-names', caption='Names from outside.')",
         "#| echo: false\n#| label: fig-names\n#| fig-cap: Names from outside.\n"
         "fig, axes = plt.subplots(2, figsize=(4, 3))\n"
         "for ax, name in zip(axes, [n for n in NAMES if '$' not in n]): ax.set_title(name)\n"
         "for name in NAMES[:3]: axes[0].plot([0, 1], label=name)\n"
         "axes[0].legend()\nshow(fig, alt=NAMES[1])"]

@pytest.fixture(scope='module')
def good(tmp_path_factory): return build(tmp_path_factory.mktemp('book'), GOOD)

def test_builds_without_warnings(good):
    r = good[0]
    assert r.returncode == 0, r.stderr[-3000:] + r.stdout[-2000:]

def test_directives(good):
    page = good[1]
    assert 'exported' in page and 'hidden-source' not in page
    assert 'default_exp' not in page and '#|' not in page
    assert 'must not run' in page and 'Traceback' not in page and 'nbdev_export' not in page

def test_code_of_figures_and_tables_can_be_opened(good):
    page = good[1]
    buttons = re.findall('<details class="dc-fold"><summary>(.*?)</summary>', page)
    for what in ('this figure', 'this table', 'drawing_helper', 'exported'):
        assert any(re.match(f'Code of .*{what}', b) for b in buttons), (what, buttons)
    assert 'Checks (1 passed)' in ' '.join(buttons)
    assert 'Toggle hidden content' not in page
    assert 'subplots' in page and 'paper-table-9' in page
    assert 'prose_source' not in page  # a sentence speaks for itself

def test_what_is_hidden_leaves_no_output(good):
    assert 'hidden-output' in good[1]  # as code that can be opened …
    assert good[1].count('hidden-output') == 1  # … and not as output
    assert 'not-said' not in good[1]  # claims that are recorded

def test_numbers_tables_and_figures(good):
    page = good[1]
    assert 'The answer is <strong>42</strong>' in page
    assert 'id="paper-table-9"' in page and 'id="fig-a"' in page
    # a page without a number of its own: the first, 0
    assert '>Table 0.1' in page and '>Fig. 0.1' in page and 'var(--dc-ink' in page

def test_text_from_data_is_escaped(good):
    assert '<script>alert(1)' not in good[1] and '&lt;script&gt;' in good[1]

class Acting(HTMLParser):
    "What could run on a page: texts of scripts, addresses, and what elements do on their own."
    def __init__(self, page):
        super().__init__()
        self.inside, self.found = '', []
        self.feed(page)
    def handle_starttag(self, tag, attrs):
        self.inside = tag
        acts = 'href', 'src', 'srcdoc'
        self.found += [v or '' for k, v in attrs if k.startswith('on') or k in acts]
    def handle_endtag(self, tag): self.inside = ''
    def handle_data(self, text):
        if self.inside in ('script', 'style', 'iframe'): self.found.append(text)

def test_names_from_outside_are_text(good):
    r, page = good
    assert r.returncode == 0 and not [v for v in Acting(page).found if 'alert(' in v or v == 'x']
    table = re.search(r'id="tbl-names".*?<tbody>(.*?)</tbody>', page, re.S)[1]
    cells = re.findall('<td[^>]*>(.*?)</td>', table, re.S)
    cells = [html.unescape(re.sub('<[^>]*>', '', c)) for c in cells]
    seen = [re.sub('[\0\u202e\n]', ' ', name) for name in HOSTILE]
    def bare(text): return re.sub(r'\W', '', text)  # quotes and dashes are set as in print
    assert list(map(bare, cells)) == list(map(bare, seen))
    assert not {'\0', '\u202e'} & set(table)

def test_numbers_of_a_figure_lie_beside_the_book(good, tmp_path_factory):
    page = good[1]
    assert 'href="_data/fig-a.csv"' in page and 'class="dc-enlarge"' in page
    assert '<script type="application/json" class="dc-csv">' not in page

def test_head_says_what_the_page_is(good):
    page = good[1]
    assert '<meta name="description" content="' in page and 'og:image' in page
    assert 'THEBE_JS_URL' not in page and '<th scope="col"' in page

def test_theme_style_sheet_is_written(good): assert 'diffcirc-theme.css' in good[1]

@pytest.mark.parametrize('cell',
                         ['md:See {numref}`no-such-figure`.', 'md:{cite:t}`nobody1900`',
                          "raise ValueError('broken cell')",
                          "from diffcirc.book.style import Html\nHtml('<svg></svg>')"])
def test_a_broken_page_fails_the_build(tmp_path, cell):
    r, _ = build(tmp_path, ['md:# Title', '1 + 1', cell])
    assert r.returncode != 0
