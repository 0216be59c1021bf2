"Checks of the rendered book. Not collected by default: `make check-book` and CI run it after a build (`pytest tests/built_book.py`)."
import json, re, shutil, subprocess, tempfile
from pathlib import Path
import pytest, yaml

ROOT = Path(__file__).parent.parent; HTML = ROOT/'_build'/'html'
TOC = yaml.safe_load((ROOT/'_toc.yml').read_text())
PAGES = [TOC['root'], *(c['file'] for p in TOC['parts'] for c in p['chapters'])]
read = lambda p: (HTML/f'{p}.html').read_text()

def test_every_page_is_there_and_index_leads_to_the_first():
    assert all((HTML/f'{p}.html').exists() for p in PAGES) and 'nbs/index.html' in (HTML/'index.html').read_text()

@pytest.mark.parametrize('label', ['paper-table-2', 'paper-fig-4', 'paper-fig-9', 'tbl-accuracy', 'fig-network', 'fig-samples-natural'])
def test_what_answers_the_paper_is_labelled_once(label): assert sum(f'id="{label}"' in read(p) for p in PAGES) == 1

@pytest.mark.parametrize('page', PAGES)
def test_no_request_to_another_host(page):
    loads = re.findall(r'<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc="([^"]+)"|<link\b(?=[^>]*rel="(?:stylesheet|preload|icon|prefetch|preconnect)")[^>]*href="([^"]+)"', read(page))
    assert not [u for pair in loads for u in pair if re.match(r'(https?:)?//', u)]

@pytest.mark.parametrize('page', [p for p in PAGES if (ROOT/f'{p}.ipynb').exists()])
def test_every_chapter_opens_in_colab_and_shows_no_directives(page):
    text = read(page)
    assert 'colab.research.google.com' in text and '#| ' not in text and 'Traceback (most recent call last)' not in text
    assert re.search(r'<h1>[^#<]', text)

def test_no_notebook_of_the_repository_holds_outputs():
    for p in (ROOT/'nbs').glob('*.ipynb'):
        assert not any(c.get('outputs') for c in json.loads(p.read_text())['cells']), p

@pytest.mark.skipif(not shutil.which('chromium'), reason='chromium is not installed')
@pytest.mark.parametrize('page', PAGES)
def test_no_sideways_scroll_on_a_phone(page, tmp_path):
    probe = '<script>addEventListener("load",()=>setTimeout(()=>{document.documentElement.setAttribute("data-probe",document.documentElement.scrollWidth+"/"+innerWidth)},800))</script>'
    copy = HTML/f'{page}.probe.html'; copy.write_text(read(page).replace('</body>', probe + '</body>'))
    try:
        with tempfile.TemporaryDirectory() as d:
            # headless windows are at least 500 px wide, so the phone is an iframe-free narrow window of the smallest size there is
            out = subprocess.run(['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
                f'--user-data-dir={d}', '--virtual-time-budget=4000', '--window-size=500,900', '--dump-dom', f'file://{copy}'], capture_output=True, text=True, timeout=120).stdout
        wide, window = map(int, re.search(r'data-probe="(\d+)/(\d+)"', out).groups())
        assert wide <= window
    finally: copy.unlink()
