"""The rendered book in a real browser: console, accessibility, phone width, what can be operated.
Not collected by default: `make check-book` and CI run it after a build. It needs Playwright (the
extra `browser`) and Chromium; `DIFFCIRC_ACCEPT=1` keeps the key figures as they are now."""
import functools, http.server, io, os, re, threading
from pathlib import Path
import pytest, yaml
from PIL import Image, ImageChops, ImageStat
from conftest import CHROMIUM

ROOT = Path(__file__).parent.parent
HTML = ROOT/'_build'/'html'
TOC = yaml.safe_load((ROOT/'_toc.yml').read_text())
PAGES = [TOC['root'], *(c['file'] for p in TOC['parts'] for c in p['chapters'])]
AXE = ROOT/'tests'/'vendor'/'axe.min.js'  # axe-core 4.14.1, MPL-2.0
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
         '--disable-background-networking', '--disable-component-update']
PHONE = dict(width=390, height=844)
# what is seen of a page is seen once, by the one process that has all its tests
EACH = [pytest.param(p, id=p, marks=pytest.mark.xdist_group(p)) for p in PAGES]

# `expect` asks again until it holds: a page answers a key when it gets to it
try: from playwright.sync_api import expect, sync_playwright
except ImportError: expect = sync_playwright = None
pytestmark = [
    pytest.mark.skipif(not sync_playwright, reason='Playwright is not installed: pip install '
                                                   "'diffcirc[browser]'"),
    pytest.mark.skipif(not CHROMIUM, reason='Chromium is not installed, or not on the PATH')]

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

@pytest.fixture(scope='module')
def address():
    handler = functools.partial(Quiet, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()

@pytest.fixture(scope='module')
def browser():
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield b
        b.close()

@pytest.fixture
def open_page(browser, address):
    "A function that opens a page of the book in a window of its own."
    contexts = []
    def opened(name, width=1280, height=900, **kw):
        context = browser.new_context(viewport=dict(width=width, height=height), **kw)
        contexts.append(context)
        page = context.new_page()
        page.goto(f'{address}/{name}')
        return page
    yield opened
    for c in contexts: c.close()

# ------------------------------------------------------------------ every page

AXE_RUN = """([part, rules]) => axe.run(part, {resultTypes: ['violations'], ...rules}).then(r => r.violations
 .filter(v => ['serious', 'critical'].includes(v.impact))
 .map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.target.join(' ')).join(' | ')))"""
# many of a kind, of which the first few are looked at, and what has no HTML inside
ALIKE = ['.highlight', 'tbody tr:nth-child(n+8)', '.dc-fig[role=img] svg', '.math',
         '.dc-fold > :not(summary)', 'p:nth-of-type(n+4)', 'li:nth-child(n+6)']
# pixels of the smallest words of a figure, as drawn
SMALL = """() => [...document.querySelectorAll('.dc-fig svg text')].filter(t => t.textContent.trim() &&
  t.getClientRects().length).map(t => { const inner = t.querySelector('tspan') || t;
  return [parseFloat(getComputedStyle(inner).fontSize)*Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b),
          t.textContent.trim()]; }).filter(s => s[0] < 10.9).map(s => s.join(' '))"""

# boxes of figures, tables apart, that have to be moved sideways to be seen whole
SIDEWAYS = """() => [...document.querySelectorAll('.dc-fig, .dc-fig *:not(svg *)')].filter(e =>
  ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && !e.querySelector(':scope > table') &&
  e.scrollWidth > e.clientWidth + 1).map(e => [(e.closest('figure[id]') || e).id || e.className,
  e.scrollWidth, e.clientWidth].join(' '))"""

# tables of which more comes to the right, without a sign of it
UNMARKED = """() => [...document.querySelectorAll('.pst-scrollable-table-container')].filter(e =>
  e.scrollWidth > e.clientWidth + 1 && !e.classList.contains('dc-after')).length"""

@pytest.fixture(scope='module')
def seen(browser, address):
    "What a page says and does in each look, looked at once."
    context = browser.new_context(viewport=dict(width=1280, height=900), color_scheme='light')
    axe = AXE.read_text()
    @functools.cache
    def look(name):
        page, errors = context.new_page(), []
        page.on('console', lambda m: errors.append(m.text) if m.type == 'error' else None)
        page.on('pageerror', lambda e: errors.append(str(e)))
        page.on('requestfailed', lambda r: errors.append(f'{r.url} failed'))
        page.on('response', lambda r: errors.append(f'{r.url} {r.status}') if r.status > 399 else None)
        page.goto(f'{address}/{name}.html')
        page.evaluate(axe)
        # what is around the article is the same on every page
        part = dict(include=[['.bd-article']], exclude=[[a] for a in ALIKE])
        frame = part | dict(include=[['html']])
        out = dict(errors=errors, light=page.evaluate(AXE_RUN, [frame if name == PAGES[0] else part, {}]))
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        contrast = dict(runOnly=dict(type='rule', values=['color-contrast']))
        out['dark'] = page.evaluate(AXE_RUN, [part, contrast])
        out['cut'] = page.evaluate("[...document.querySelectorAll('.bd-article table')].filter(t => "
                                   "t.scrollWidth > t.parentElement.clientWidth + 1 && "
                                   "t.parentElement.tabIndex !== 0).length")
        page.set_viewport_size(PHONE)
        page.evaluate('new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))')
        out['wide'] = page.evaluate('document.documentElement.scrollWidth')
        out['small'] = page.evaluate(SMALL)
        out['sideways'] = page.evaluate(SIDEWAYS)
        out['unmarked'] = page.evaluate(UNMARKED)
        page.close()
        return out
    yield look
    context.close()

@pytest.mark.parametrize('name', EACH)
def test_the_console_is_quiet_and_nothing_is_missing(seen, name): assert not seen(name)['errors']

@pytest.mark.parametrize('name', EACH)
@pytest.mark.parametrize('look', ['light', 'dark'])
def test_axe_finds_nothing_serious(seen, name, look): assert not seen(name)[look]

@pytest.mark.parametrize('name', EACH)
def test_a_phone_scrolls_down_only(seen, name): assert seen(name)['wide'] <= PHONE['width']

@pytest.mark.parametrize('name', EACH)
def test_words_in_figures_have_eleven_pixels_on_a_phone(seen, name): assert not seen(name)['small']

@pytest.mark.parametrize('name', EACH)
def test_figures_are_seen_whole_on_a_phone(seen, name): assert not seen(name)['sideways']

@pytest.mark.parametrize('name', EACH)
def test_tables_that_are_wider_than_the_page_scroll_by_keys(seen, name): assert not seen(name)['cut']

@pytest.mark.parametrize('name', EACH)
def test_a_phone_shows_that_more_of_a_table_comes(seen, name): assert not seen(name)['unmarked']

@functools.cache
def text_of(path): return path.read_text() if path.exists() else None

@functools.cache
def ids_of(path): return set(re.findall(r'\b(?:id|name)="([^"]+)"', text_of(path) or ''))

@pytest.mark.parametrize('name', EACH)
def test_links_within_the_book_lead_somewhere(name):
    at, lost = HTML/f'{name}.html', []
    for href in set(re.findall(r'<a\b[^>]*\bhref="([^"]*)"', text_of(at))):
        target, _, anchor = href.partition('#')
        if re.match(r'[a-z]+:', href) or target.startswith('//'): continue
        path = (at.parent/target.split('?')[0]).resolve() if target else at
        if not path.exists() or anchor and path.suffix == '.html' and anchor not in ids_of(path):
            lost.append(href)
    assert not lost

@pytest.mark.parametrize('name', EACH)
def test_heads_say_what_a_page_is_and_pages_are_light(name):
    page = text_of(HTML/f'{name}.html')
    said = re.search(r'<meta name="description" content="([^"]+)"', page)
    assert said and len(said[1]) > 15 and re.search(r'<meta property="og:image" content="[^"]+"', page)
    assert len(page.encode()) < 3e6

@pytest.mark.parametrize('name', EACH)
def test_figures_have_words_and_numbers(name):
    page = text_of(HTML/f'{name}.html')
    assert '<script type="application/json" class="dc-csv"' not in page and not re.search(r'class="dc-fig"[^>]*aria-label=""', page)
    for csv in re.findall(r'<a class="dc-numbers" href="([^"]+)"', page):
        lines = (HTML/f'{name}.html').parent.joinpath(csv).read_text().splitlines()
        assert len(lines) > 1 and ',' in lines[0], csv

# ------------------------------------------------------------------ what can be operated

def with_mark(mark):
    "The page that holds a piece of HTML."
    return next(f'{p}.html' for p in PAGES if mark in (text_of(HTML/f'{p}.html') or ''))

def test_the_map_follows_slider_keys_and_pointer(open_page):
    page = open_page(with_mark('class="dcm-data"'))
    page.locator('.dcm[data-live]').wait_for()
    clock, slider = page.locator('.dcm-clock'), page.locator('.dcm-slider')
    before = clock.inner_text()
    slider.focus()
    slider.press('Home')
    expect(clock).not_to_have_text(before)
    first = page.locator('.dcm-set').first
    expect(first.locator('g[tabindex="0"]')).to_have_count(1)
    part = first.locator('g[tabindex="0"]')
    name = part.get_attribute('data-site')
    part.focus()
    page.keyboard.press('ArrowDown')
    page.wait_for_function('n => ![n, undefined].includes(document.activeElement.dataset.site)', arg=name)
    moved = page.evaluate('document.activeElement.dataset.site')
    expect(page.locator('.dcm-say')).to_contain_text(moved)
    ring = page.evaluate('getComputedStyle(document.activeElement).outlineStyle')
    assert ring != 'none'
    expect(first.locator('g[tabindex="0"]')).to_have_count(1)
    other = first.locator('g[data-live]').first
    other.dispatch_event('pointerenter', dict(pointerType='mouse'))
    expect(page.locator('.dcm-say')).to_contain_text(other.get_attribute('data-site'))

def test_the_viewer_has_one_stop_in_a_set_of_heads(open_page):
    page = open_page(with_mark('class="dcv-data"'))
    page.locator('.dcv[data-live]').first.wait_for()
    heads = page.locator('.dcv-heads').first.locator('.dcv-head')
    heads.first.focus()
    page.keyboard.press('ArrowRight')
    expect(heads.nth(1)).to_have_attribute('aria-pressed', 'true')
    assert [h.get_attribute('tabindex') for h in heads.all()].count('0') == 1
    clock = page.locator('.dcv-clock').first
    before = clock.inner_text()
    page.locator('.dcv-bar input').first.press('ArrowRight')
    expect(clock).not_to_have_text(before)

def test_the_ledger_filters_and_keeps_the_filter_in_the_address(open_page):
    page = open_page(with_mark('id="tbl-ledger"'))
    shown = page.locator('table.dcl tbody tr:visible')
    n = shown.count()
    page.locator('.dcl-bar select').first.select_option('inconclusive')
    expect(shown).not_to_have_count(n)
    few = shown.count()
    assert 0 < few < n
    expect(page).to_have_url(re.compile('verdict=inconclusive'))
    page.reload()
    expect(shown).to_have_count(few)
    why = shown.first.locator('details')
    why.locator('summary').press('Enter')
    expect(why).to_have_js_property('open', True)
    table = page.locator('table.dcl')
    assert table.evaluate('t => t.scrollWidth <= t.parentElement.clientWidth + 1')

def test_large_tables_sort_and_filter(open_page):
    page = open_page(next(f'{p}.html' for p in PAGES if any(
        len(re.findall('<tr', t)) > 42 and 'tbl-ledger' not in t
        for t in re.findall('<table.*?</table>', text_of(HTML/f'{p}.html') or '', re.S))))
    table = page.locator('.dc-filter + .dc-box table.dc-big').first
    rows = table.locator('tbody tr:visible')
    n = rows.count()
    head = table.locator('th').first
    head.locator('button').press('Enter')
    expect(head).to_have_attribute('aria-sort', 'ascending')
    expect(rows).to_have_count(n)
    cells = [r.locator('td').first.inner_text() for r in rows.all()[:40]]
    head.locator('button').press('Enter')
    expect(head).to_have_attribute('aria-sort', 'descending')
    assert len(set(cells)) == 1 or rows.first.locator('td').first.inner_text() != cells[0]
    page.locator('.dc-filter input').first.fill('zzzz')
    expect(rows).to_have_count(0)

def test_folds_open_and_figures_enlarge(open_page):
    page = open_page(with_mark('class="dc-enlarge"'))
    fold = page.locator('.dc-fold').first
    fold.locator('summary').press('Enter')
    expect(fold.locator('pre').first).to_be_visible()
    expect(fold).to_have_js_property('open', True)
    button = page.locator('.dc-enlarge').first
    button.press('Enter')
    large = page.locator('dialog.dc-large')
    expect(large.locator('.dc-fig > *').first).to_be_visible()  # drawn as SVG, or as HTML
    page.keyboard.press('Escape')
    expect(large).to_have_count(0)
    expect(button).to_be_focused()

def test_checks_are_folded_and_counted():
    pages = [text_of(HTML/f'{p}.html') for p in PAGES if (ROOT/f'{p}.ipynb').exists()]
    counted = sum(int(n) for t in pages for n in re.findall(r'Checks \((\d+) passed\)', t))
    assert counted > 500

def test_light_and_dark_differ(open_page):
    page = open_page(f'{PAGES[0]}.html')
    def colour(): return page.evaluate('getComputedStyle(document.body).backgroundColor')
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    light = colour()
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert colour() != light

def test_search_shows_prose(open_page):
    page = open_page('search.html?q=entropy')
    found = page.locator('#search-results li .context')
    expect(found.nth(3)).to_be_attached()
    page.wait_for_timeout(1500)  # the rest of what it finds
    said = found.all_inner_texts()
    assert not [s for s in said if 'Colab' in s or 'import ' in s or 'def ' in s]

def test_paper_shows_every_interactive_figure_once(open_page):
    page = open_page(with_mark('class="dcv-data"'))
    page.locator('.dcv[data-live]').first.wait_for()
    page.emulate_media(media='print')
    for figure in page.locator('.dcv').all():
        expect(figure.locator('.dcv-live')).to_be_hidden()
        expect(figure.locator('.dcv-static')).to_be_visible()
    expect(page.locator('.dc-under:visible')).to_have_count(0)
    assert len(page.pdf(format='A4')) > 20_000

# ------------------------------------------------------------------ key figures

# drawn from fixed numbers, the same at every preset: SVG of one panel, of lines, and HTML
KEY = {'fig-palette': 'nbs/book/style', 'fig-schedule': 'nbs/denoiser/diffusion',
       'fig-seven-example': 'nbs/book/front'}

@pytest.mark.parametrize('label', KEY)
def test_key_figures_look_as_accepted(open_page, label):
    page = open_page(f'{KEY[label]}.html', color_scheme='light')
    picture = page.locator(f'#{label} .dc-fig').screenshot()
    got = Image.open(io.BytesIO(picture)).convert('RGB')
    got = got.resize((320, round(320*got.height/got.width)))
    kept = ROOT/'tests'/'pictures'/f'{label}.png'
    if os.environ.get('DIFFCIRC_ACCEPT'): got.save(kept, optimize=True)
    was = Image.open(kept).convert('RGB')
    assert abs(was.height - got.height) <= 6
    apart = ImageStat.Stat(ImageChops.difference(was, got.resize(was.size))).mean
    assert max(apart) < 4, apart  # of 255
