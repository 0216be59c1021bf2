"""The ledger: every module knows its page, text from claims cannot act as HTML, and the filters of
the rendered table do what they say."""
import html, json, re, subprocess
from pathlib import Path
import pandas as pd, pytest
from diffcirc.book.build import collect, notebooks
from diffcirc.book.claims import (
    COLUMNS, WORDS_OF, as_json, complete, embedded, ledger_script, ledger_table, page)
from diffcirc.book.provenance import footer_html, provenance
from diffcirc.core import paper_claims
from conftest import CHROMIUM

ROOT = Path(__file__).parent.parent
FLAGS = ('--headless --no-sandbox --disable-gpu --disable-quic --no-first-run '
         '--disable-background-networking --disable-component-update --disable-sync').split()

def sample():
    answer = dict(chapter='study.models', ours='1.0 [0.9, 1.1]', lo=.9, hi=1.1, n_models=12,
                  cell='tbl-x', source='nbs/study/models.html#tbl-x', reason='so it is',
                  references=dict(untrained=.5, halves=.25))
    rows = [c | answer | dict(verdict=WORDS_OF[c['kind']][i % len(WORDS_OF[c['kind']])])
            for i, c in enumerate(paper_claims().values())]
    L = pd.DataFrame(rows).reindex(columns=COLUMNS).astype(object)
    return L.where(L.notna(), None)

@pytest.mark.parametrize('module', [
    'study.models', 'circuits.attention', 'circuits.features', 'circuits.information',
    'circuits.ablation', 'circuits.temporal', 'circuits.transfer', 'circuits.comparison',
    'trust.audit'])
def test_a_chapter_names_its_page(module): assert (ROOT/f'{page(module)}.ipynb').exists()

def test_every_recording_chapter_is_a_module():
    "record(S, 'name', …) in a notebook: the page it links to is that notebook."
    found = []
    for f in notebooks(ROOT/'nbs').values():
        cells = json.loads(f.read_text())['cells']
        text = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'code')
        found += [(m, f) for m in re.findall(r"^record\((?:S|st), '([\w.]+)'", text, re.M)]
    assert len(found) > 8
    for m, f in found: assert page(m) == f.relative_to(ROOT).with_suffix('').as_posix()

def test_a_hole_in_the_ledger_is_named():
    L = sample()
    L.loc[3, 'verdict'] = None
    L.loc[5, 'cell'] = ''
    with pytest.raises(ValueError, match=f'{L.id[3]}.*no cell: {L.id[5]}'): complete(L)
    assert len(complete(sample())) == len(paper_claims())

def test_data_in_a_page_comes_back(tmp_path):
    L = as_json(sample().head(2).assign(ours='</script><b>&'))
    p = provenance() | dict(natural='</script>')
    for wing in ('study', 'book'): (tmp_path/'nbs'/wing).mkdir(parents=True)
    (tmp_path/'nbs/study/models.html').write_text('<table id="tbl-x"></table>' + footer_html(p))
    (tmp_path/'nbs/book/claims.html').write_text(embedded(L, 'dc-claims') + footer_html(p))
    got, made = collect(tmp_path)
    assert got == L and made['where'] == {'tbl-x': 'nbs/study/models'}
    assert made['pages']['nbs/study/models']['natural'] == '</script>'

DRIVE = """<script>addEventListener('load', () => { const out = {}, rows = [...document.querySelectorAll('tbody tr')], seen = () => rows.filter(r => !r.hidden && getComputedStyle(r).display !== 'none');
 const bar = document.querySelector('.dcl-bar'), [verdict, place] = bar.querySelectorAll('select'), words = bar.querySelector('input'), fire = () => bar.dispatchEvent(new Event('input', {bubbles: true}));
 out.all = seen().length; verdict.value = 'contradicted'; fire(); out.not = seen().map(r => r.cells[4].textContent); place.value = 'Table 3'; fire(); out.table3 = seen().map(r => r.cells[1].textContent);
 out.address = location.search; out.places = [...place.options].map(o => o.value); verdict.value = ''; place.value = 'Table 4'; fire(); out.table4 = seen().map(r => r.cells[1].textContent);
 verdict.value = ''; place.value = ''; words.value = 'ENTROPY  300'; fire(); out.words = seen().map(r => r.textContent); words.value = 'zzz'; fire(); out.none = seen().length; out.said = bar.querySelector('output').textContent;
 out.focus = [...bar.querySelectorAll('select, input')].every(e => e.tabIndex === 0 && e.closest('label').textContent.trim()); out.wide = document.documentElement.scrollWidth - innerWidth; document.body.dataset.result = JSON.stringify(out); });</script>"""

@pytest.mark.skipif(not CHROMIUM, reason='no chromium')
@pytest.mark.parametrize('width', (1000, 500))
def test_the_filters_filter(tmp_path, width, monkeypatch):
    monkeypatch.setenv('DIFFCIRC_BOOK', 'x')
    L = sample()
    def cells(r):
        values = (r.statement, r.place, r.paper, r.ours, r.verdict, r.reason, r.cell)
        return ''.join(f'<td>{html.escape(str(v))}</td>' for v in values)
    table = ('<table class="table" id="tbl-ledger"><thead><tr>'
             + ''.join(f'<th>{c}</th>' for c in ledger_table(L).df.columns) + '</tr></thead><tbody>'
             + ''.join(f'<tr>{cells(r)}</tr>' for r in L.itertuples()) + '</tbody></table>')
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    (tmp_path/'p.html').write_text(
        '<!doctype html><html><head><meta charset="utf-8"><meta '
        f'http-equiv="Content-Security-Policy" content="{policy}"></head><body><div '
        f'class="bd-content">{table}{ledger_script(L)._repr_html_()}</div>{DRIVE}</body></html>')
    dom = subprocess.run([CHROMIUM, *FLAGS, f'--window-size={width},900',
                          f'--user-data-dir={tmp_path/"profile"}', '--virtual-time-budget=5000',
                          '--dump-dom', (tmp_path/'p.html').as_uri()],
                         capture_output=True, text=True, timeout=120).stdout
    r = json.loads(html.unescape(re.search(r'data-result="(.*?)"', dom, re.S)[1]))
    assert r['all'] == len(L) and set(r['not']) == {'contradicted'}
    assert len(r['not']) == (L.verdict == 'contradicted').sum()
    assert 0 < len(r['table3']) < r['all'] and all('Table 3' in p for p in r['table3'])
    # `Tables 1, 4` is a place in two tables, and the filters stand in the address
    assert not {'Tables 1', '4'} & set(r['places']) and 'Tables 1, 4' in r['table4']
    assert 'verdict=contradicted' in r['address'] and 'place=Table+3' in r['address']
    assert r['words'] and all('entropy' in w.lower() and '300' in w for w in r['words'])
    assert r['none'] == 0 and r['said'].startswith('0 of') and r['focus'] and r['wide'] <= 0
