"The concept explorer in a real browser, from a file, with every request forbidden."
import html, json, re
import numpy as np, pytest
from diffcirc.book.explorer import check_explorer, concept_explorer
from diffcirc.book.style import use_style
from test_viewer import CHROMIUM, dump

EVIL = '</script><img src=x onerror=document.title="hit">'
LABELS = 'synthetic faces', 'natural faces'

def frames(T=4, C=3, n=2, px=16, side=8, seed=0):
    rng = np.random.default_rng(seed)
    def pictures(*shape): return rng.integers(0, 256, (*shape, px, px, 3), np.uint8)
    def one():
        maps = rng.random((C, T, n, side, side)).astype('float32')
        return dict(timesteps=np.linspace(999, 0, T).astype(int).tolist(),
                    concepts=['hair', EVIL, 'mouth', 'skin', 'nose'][:C], units=[*range(C)], clean=pictures(T, n), final=pictures(n),
                    maps=maps*(maps > .5), steered=pictures(C, 3, 2, n))
    return {label: one() for label in LABELS}

@pytest.fixture(scope='module')
def page():
    use_style()
    f = frames()
    return f, concept_explorer(f, {LABELS[1]: 'names carried over'}, β=32.).body

def test_nothing_foreign_in_the_page(page):
    body = re.sub(r'http://www\.w3\.org/(2000/svg|1999/xlink)', '', page[1])
    assert 'http' not in body and '<img src=x' not in body and body.count('</script>') == 2

def test_small_at_the_size_of_the_book():
    "Nine steps, five concepts and four faces of 32 pixels, all noise, the worst for JPEG."
    f = frames(T=9, C=5, n=4, px=32, side=16)
    assert len(concept_explorer(f).body) < 2_000_000

def test_one_clear_sentence():
    f = frames()
    f[LABELS[1]]['steered'] = f[LABELS[1]]['steered'][:2]
    with pytest.raises(ValueError, match="steered of frames 'natural faces' has shape"):
        check_explorer(f)

# Moves the slider, picks concepts and the other way; reports what the page says and shows.
DRIVE = """<script>
const log = []; window.addEventListener('error', e => log.push(e.message));
document.addEventListener('securitypolicyviolation', e => log.push('request ' + e.blockedURI));
window.addEventListener('load', () => setTimeout(() => {
  const $ = (s, r) => (r || document).querySelector(s), r = $('[data-dce]'), out = {};
  const hash = c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].reduce((a, v) => (a * 31 + v) >>> 0, 7);
  const rows = () => [...$('.dce-set', r).querySelectorAll('.dce-row')].map(x => hash($('canvas', x)));
  const look = () => ({ clock: $('.dce-clock', r).textContent, say: $('.dce-say', r).textContent, rows: rows(),
                        named: [...r.querySelectorAll('canvas')].filter(c => c.getAttribute('aria-label')).length });
  const slide = v => { const s = $('input[type=range]', r); s.value = v; s.dispatchEvent(new Event('input', { bubbles: true })); };
  const pick = (k, v) => [...r.querySelectorAll('fieldset')][k].querySelectorAll('input')[v].click();
  out.live = r.hasAttribute('data-live'); out.still = getComputedStyle($('.dce-static', r)).display;
  slide(0); out.first = look(); slide(3); out.last = look(); pick(0, 2); out.mouth = look(); pick(1, 1); out.down = look();
  out.canvases = r.querySelectorAll('canvas').length; out.note = [...r.querySelectorAll('.dce-note')].some(e => e.textContent === 'names carried over');
  out.keys = [...r.querySelectorAll('.dce-bar input')].every(e => e.tabIndex === 0 && (e.labels.length > 0 || e.getAttribute('aria-label')));
  out.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth; out.title = document.title; out.log = log;
  document.body.dataset.result = JSON.stringify(out);
}, 500));
</script>"""

@pytest.mark.skipif(not CHROMIUM, reason='chromium is not installed: the explorer cannot be driven')
@pytest.mark.parametrize('window', ['390,900', '1200,900'])
def test_drives(page, tmp_path, window):
    f, body = page
    found = re.search(r'data-result="([^"]*)"', dump(tmp_path, DRIVE + body,
                                                     f'--window-size={window}'))
    assert found, 'the page did not report'
    o = json.loads(html.unescape(found[1]))
    assert o['log'] == [] and o['title'] == 'quiet' and o['live'] and o['still'] == 'none'
    assert o['wide'] <= 0 and o['note'] and o['keys']
    first, last, mouth, down = (o[k] for k in ('first', 'last', 'mouth', 'down'))
    assert (first['clock'], last['clock']) == ('t = 999', 't = 0')
    # a timestep changes the predicted image, a concept what comes of it too, a way that alone
    assert [a != b for a, b in zip(first['rows'], last['rows'])] == [True] + [False]*4
    assert [a != b for a, b in zip(last['rows'], mouth['rows'])] == [True, False] + [True]*3
    assert [a != b for a, b in zip(mouth['rows'], down['rows'])] == [False]*2 + [True]*3
    assert first['named'] == o['canvases'] == 2*5*2
    share = 100*(f[LABELS[0]]['maps'][2, 3] > 0).mean()
    assert f'{share:.1f}' in mouth['say'] and 'unit 2, names carried over' in mouth['say']
    assert 'turned up by 32' in mouth['say'] and 'turned down by 32' in down['say']

@pytest.mark.skipif(not CHROMIUM, reason='chromium is not installed: the explorer cannot be loaded')
def test_damaged_data_leaves_the_still_picture(page, tmp_path):
    dom = dump(tmp_path, re.sub(r'class="dce-data">\{', 'class="dce-data">!', page[1]))
    assert 'class="dce-static"' in dom and 'class="dce-live"' not in dom
