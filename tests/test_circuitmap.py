"""The circuit map in a real browser: what the slider paints is what the drawing of that timestep
shows; and it works as a still picture."""
import html, json, re, subprocess
import numpy as np, pandas as pd, pytest
from diffcirc.book.circuitmap import circuit_map
from diffcirc.denoiser.sites import sites
from diffcirc.book.style import css, use_style
from diffcirc.denoiser.unet import UNetConfig, meta_unet
from conftest import CHROMIUM

FLAGS = ('--headless --no-sandbox --disable-gpu --disable-quic --no-first-run '
         '--disable-background-networking --disable-component-update --disable-sync').split()
CFG = UNetConfig(32, 1, 16, (1, 2, 2), 1, 0, 16, 32)

def tables(seed=0):
    rng, names = np.random.default_rng(seed), list(sites(meta_unet(CFG)))
    def one():
        d = pd.DataFrame([dict(timestep=t, site=n) for t in (100, 300, 900) for n in names])
        m = 10**rng.uniform(-5, 1, len(d))*rng.choice([1, 1, 1, -.1], len(d))
        return d.assign(mean=m, lo=m - .01, hi=m + .01)
    return {'synthetic faces': one(), 'natural faces': one()}

def build(at=300):
    use_style()
    pics = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    return circuit_map(CFG, tables(), {k: pics for k in tables()}, at=at).body

def painted(body):
    "Per map and site: (colour, texts) in the markup."
    out = []
    for svg in re.findall(r'<svg xmlns.*?</svg>', body, re.S):
        site = r'<g data-site="([^"]+)">(.*?)</g>(?=<g data-site|</svg>|<defs)'
        out.append({n: (re.search(r'fill:(#\w{6})', g)[1],
                        [html.unescape(x) for x in re.findall(r'<text[^>]*>([^<]*)', g)])
                    for n, g in re.findall(site, svg, re.S) if 'fill:#' in g})
    return out

def test_the_page_is_whole_without_javascript():
    body = build()
    assert 't = 300' in body and 'http' not in body.replace('http://www.w3.org/2000/svg', '')
    still = painted(body)
    assert len(still) == 2 and set(still[0]) == set(sites(meta_unet(CFG))) == set(still[1])

DRIVE = """<script>
const log = []; window.addEventListener('error', e => log.push(e.message)); document.addEventListener('securitypolicyviolation', e => log.push('request ' + e.blockedURI));
window.addEventListener('load', () => setTimeout(() => {
  const $ = s => document.querySelector(s), s = $('.dcm-slider'), out = {};
  const move = v => { s.value = v; s.dispatchEvent(new Event('input', { bubbles: true })); };
  const look = () => [...document.querySelectorAll('.dcm-set')].map(m => Object.fromEntries([...m.querySelectorAll('g[data-live]')].map(g => [g.dataset.site,
    [[...g.querySelectorAll('rect, polygon')].map(x => x.style.fill).find(f => f.startsWith('rgb')), [...g.querySelectorAll('text')].map(x => x.textContent)]])));
  out.start = $('.dcm-clock').textContent; move(0); out.at0 = look(); move(2); out.at2 = look(); out.clock = $('.dcm-clock').textContent;
  const g = $('g[data-site="mid.attn.h1"]'); g.dispatchEvent(new MouseEvent('click', { bubbles: true })); out.say = $('.dcm-say').textContent;
  g.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft', bubbles: true, cancelable: true })); out.key = $('.dcm-clock').textContent; out.on = document.querySelectorAll('g.on').length;
  const stops = () => [...document.querySelectorAll('g[tabindex="0"]')].map(x => x.dataset.site); out.stops = stops(); g.focus(); g.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown', bubbles: true, cancelable: true })); out.down = stops();
  out.lines = $('.dcm-spark').querySelectorAll('polyline').length; out.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth; out.log = log;
  document.body.dataset.result = JSON.stringify(out);
}, 300));
</script>"""

@pytest.mark.skipif(not CHROMIUM, reason='no chromium')
@pytest.mark.parametrize('width', (900, 500))
def test_the_slider_paints_what_the_drawing_shows(tmp_path, width):
    policy = ("default-src 'none'; img-src data:; script-src 'unsafe-inline'; "
              "style-src 'unsafe-inline'")
    (tmp_path/'page.html').write_text(
        '<!doctype html><html><head><meta charset="utf-8"><meta '
        f'http-equiv="Content-Security-Policy" content="{policy}"><style>{css()}</style></head>'
        f'<body>{build()}{DRIVE}</body></html>')
    dom = subprocess.run([CHROMIUM, *FLAGS, f'--window-size={width},900',
                          f'--user-data-dir={tmp_path/"profile"}', '--virtual-time-budget=5000',
                          '--dump-dom', (tmp_path/'page.html').as_uri()],
                         capture_output=True, text=True, timeout=120).stdout
    r = json.loads(html.unescape(re.search(r'data-result="(.*?)"', dom, re.S)[1]))
    assert not r['log'] and r['on'] == 2 and r['lines'] == 2 and r['wide'] <= 0
    # one stop of the Tab key in each map, moved by the arrow keys
    assert r['stops'] == ['mid.attn', 'mid.attn'] and r['down'][0] == 'mid.attn.h2'
    assert (r['start'], r['clock'], r['key']) == ('t = 300', 't = 100', 't = 300')
    assert 'mid.attn.h1 removed at t = 100' in r['say'] and 'natural faces' in r['say']
    def rgb(c): return f'rgb({int(c[1:3], 16)}, {int(c[3:5], 16)}, {int(c[5:], 16)})'
    for shown, at in ((r['at0'], 900), (r['at2'], 100)):
        for live, still in zip(shown, painted(build(at))):
            assert live == {n: [rgb(c), t] for n, (c, t) in still.items()}
