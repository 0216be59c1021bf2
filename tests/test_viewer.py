"The attention viewer in a real browser, from a file, with every request forbidden."
import html, json, re, subprocess
import numpy as np, pytest
from diffcirc.book.style import css, use_style
from diffcirc.book.viewer import attention_viewer, check_frames, pack, unpack
from conftest import CHROMIUM

FLAGS = ('--headless --no-sandbox --disable-gpu --disable-quic --no-first-run '
         '--disable-background-networking --disable-component-update --disable-sync').split()
EVIL = '</script><img src=x onerror=document.title="hit">'

def frames(T=4, H=3, n=16, seed=0):
    rng = np.random.default_rng(seed)
    def pictures(): return rng.integers(0, 256, (T, 16, 16, 3), np.uint8)
    def one():
        m = rng.dirichlet(np.ones(n), (T, H, n)).astype(np.float32)
        return dict(timesteps=[900, 600, 300, 100][:T], images=pictures(), clean=pictures(),
                    maps=m, heads=['mid.attn.h0', EVIL, 'dec1.attn.h0'],
                    entropy=-(m*np.log2(m + 1e-12)).sum(-1).mean(-1))
    return {'synthetic faces': one(), 'natural faces': one()}

@pytest.fixture(scope='module')
def page():
    use_style()
    f = frames()
    return f, attention_viewer(f).body

def test_round_trip():
    m = np.random.default_rng(1).dirichlet(np.full(64, .2), (3, 2, 64))
    b = unpack(*pack(m))
    top = m.max(-1, keepdims=True)
    assert np.abs(np.sqrt(b/top) - np.sqrt(m/top)).max() < 1/30 + 1e-3

def test_nothing_foreign_in_the_page(page):
    body = re.sub(r'http://www\.w3\.org/(2000/svg|1999/xlink)', '', page[1])
    assert 'http' not in body and '<img src=x' not in body and body.count('</script>') == 2

def test_one_clear_sentence():
    f = frames()
    f['natural faces']['maps'] = f['natural faces']['maps'][:2]
    with pytest.raises(ValueError, match="maps of frames 'natural faces' has shape"):
        check_frames(f)

# Moves the slider, picks a head, points at a position; reports what the page then says and what the
# canvases hold.
DRIVE = """<script>
const log = []; window.addEventListener('error', e => log.push(e.message)); document.addEventListener('securitypolicyviolation', e => log.push('request ' + e.blockedURI));
const error = console.error; console.error = (...a) => { log.push(a.join(' ')); error(...a); };
window.addEventListener('load', () => setTimeout(() => {
  const $ = (s, r) => (r || document).querySelector(s), roots = [...document.querySelectorAll('[data-dcv]')], r = roots[0], out = {};
  const hash = c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].reduce((a, v) => (a * 31 + v) >>> 0, 7);
  const look = () => ({ clock: $('.dcv-clock', r).textContent, say: $('.dcv-say', r).textContent, image: hash($('[data-pic=images]', r)), clean: hash($('[data-pic=clean]', r)),
                        tile: hash($('.dcv-head canvas', r)), bits: $('.dcv-bits', r).textContent, pressed: r.querySelectorAll('[aria-pressed=true]').length });
  const move = v => { const s = $('input', r); s.value = v; s.dispatchEvent(new Event('input', { bubbles: true })); };
  const key = (e, k) => e.dispatchEvent(new KeyboardEvent('keydown', { key: k, bubbles: true, cancelable: true }));
  out.live = roots.map(x => x.hasAttribute('data-live')); out.still = getComputedStyle($('.dcv-static', r)).display; out.maps = r.dataset.maps;
  move(0); out.first = look(); move(3); out.last = look(); $('.dcv-live', r).querySelectorAll('.dcv-head')[2].focus(); out.head = look();
  const c = $('[data-pic=clean]', r), b = c.getBoundingClientRect();
  c.dispatchEvent(new PointerEvent('pointermove', { clientX: b.left + b.width * .6, clientY: b.top + b.height * .1, pointerType: 'mouse', bubbles: true })); out.query = look();
  key(c, 'ArrowDown'); out.down = look(); key(c, 'Escape'); out.away = look(); key($('.dcv-foot', r), 'ArrowLeft'); out.left = look();
  const heads = [...$('.dcv-heads', r).children], stops = () => heads.map((h, i) => h.tabIndex === 0 ? i : -1).filter(i => i >= 0);
  heads[1].focus(); key(heads[1], 'ArrowRight'); out.right = [stops(), heads.indexOf(document.activeElement)]; key(heads[2], 'Home'); out.home = stops();
  out.other = $('.dcv-clock', roots[1]).textContent; out.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth; out.title = document.title; out.log = log;
  document.body.dataset.result = JSON.stringify(out);
}, 500));
</script>"""

def dump(tmp_path, body, *flags):
    policy = ("default-src 'none'; img-src data:; script-src 'unsafe-inline'; "
              "style-src 'unsafe-inline'")
    (tmp_path/'page.html').write_text(
        '<!doctype html><html><head><meta charset="utf-8"><meta '
        f'http-equiv="Content-Security-Policy" content="{policy}"><title>quiet</title>'
        f'<style>{css()}</style></head><body>{body}</body></html>')
    run = subprocess.run([CHROMIUM, *FLAGS, *flags, f'--user-data-dir={tmp_path/"profile"}',
                          '--virtual-time-budget=8000', '--dump-dom',
                          (tmp_path/'page.html').as_uri()],
                         capture_output=True, text=True, timeout=120)
    return run.stdout

@pytest.mark.skipif(not CHROMIUM, reason='chromium is not installed: the viewer cannot be driven')
@pytest.mark.parametrize('window', ['390,900', '1200,900'])
def test_drives(page, tmp_path, window):
    f, body = page
    m = [x['maps'] for x in f.values()]
    both = DRIVE + body + attention_viewer(frames(seed=5)).body
    found = re.search(r'data-result="([^"]*)"', dump(tmp_path, both, f'--window-size={window}'))
    assert found, 'the page did not report'
    o = json.loads(html.unescape(found[1]))
    assert o['log'] == [] and o['title'] == 'quiet' and o['live'] == [True, True]
    assert o['still'] == 'none' and o['maps'] == 'ready' and o['wide'] <= 0
    first, last, head, query = (o[k] for k in ('first', 'last', 'head', 'query'))
    assert (first['clock'], last['clock']) == ('t = 900', 't = 100')
    assert o['left']['clock'] == o['other'] == 't = 300'
    assert all(first[k] != last[k] for k in ('image', 'clean', 'tile', 'bits', 'say'))
    assert last['bits'] == f"{f['synthetic faces']['entropy'][3, 0]:.2f} bits"
    # one stop of the Tab key in a set of heads, moved by the arrow keys
    assert o['right'] == [[2], 2] and o['home'] == [0]
    assert head['pressed'] == 2 and head['clean'] != last['clean']
    assert 'row 1, column 3' in query['say'] and 'row 2, column 3' in o['down']['say']
    assert query['clean'] != head['clean'] and o['away']['clean'] == head['clean']
    # the browser inflated and decoded the row that was stored
    share = [float(x) for x in re.findall(r'([\d.]+)\u00a0%', query['say'])]
    np.testing.assert_allclose(share[:2], [100*x[3, 2, 2].max() for x in m], atol=.6)

@pytest.mark.skipif(not CHROMIUM, reason='chromium is not installed: the viewer cannot be loaded')
def test_damaged_data_leaves_the_still_picture(page, tmp_path):
    dom = dump(tmp_path, re.sub(r'class="dcv-data">\{', 'class="dcv-data">!', page[1]))
    assert 'class="dcv-static"' in dom and 'class="dcv-live"' not in dom
