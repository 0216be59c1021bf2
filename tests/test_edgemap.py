"""The map of edges in a real browser: sliders, models and keys show what the table says; it works as
a still picture, and with 800 edges."""
import html, json, re, subprocess
import numpy as np, pandas as pd, pytest
from diffcirc.book.edgemap import edge_map
from diffcirc.book.style import css, use_style
from diffcirc.circuits.edges import graph_of
from diffcirc.circuits.finding import sizes_of
from diffcirc.denoiser.diffusion import untrained
from diffcirc.denoiser.unet import UNetConfig
from conftest import CHROMIUM

FLAGS = ('--headless --no-sandbox --disable-gpu --disable-quic --no-first-run '
         '--disable-background-networking --disable-component-update --disable-sync').split()

def small(): return graph_of(untrained(UNetConfig(16, 1, 8, (1, 2), 1, 1, 16, 16, (1, 2, 1),
                                                  True, 1, True, 1.)).net)

def large(): return graph_of(untrained(UNetConfig(32, 1, 8, (1, 2, 2, 2), 3, 1, 8, 32,
                                                  (4, 8, 4))).net)

def scored(g, models=2, timesteps=(900, 300, 100)):
    rows, n = [], len(g.edges)
    for i in range(2*models):
        for t in timesteps:
            rng = np.random.default_rng((i, t))
            score = 10**rng.uniform(-6, 0, n)
            f = pd.DataFrame(g.edges, columns=['sender', 'reader']).assign(
                dataset=('synthetic', 'natural')[i % 2], seed=i//2, timestep=t, distance=score,
                error=score*rng.choice([1, -1], n), rank=(-score).argsort().argsort(),
                empty_distance=1.)
            asked = f['rank'].isin([k - 1 for k in sizes_of(n)])
            rows.append(f.assign(kept_distance=np.where(asked, 1 - (f['rank'] + 1)/n, np.nan)))
    return pd.concat(rows, ignore_index=True)

def test_800_edges_fit():
    use_style()
    g = large()
    assert len(g.edges) > 800
    body = edge_map(g, scored(g, models=6, timesteps=(900, 600, 300, 100))).body
    assert len(body.encode()) < 3_000_000
    assert body.count('class="e out') == 2*(len(g.edges) - len(g.edges)//4)

def test_the_page_is_whole_without_javascript():
    use_style()
    g = small()
    body = edge_map(g, scored(g)).body
    assert 't = 300' in body and 'http' not in body.replace('http://www.w3.org/2000/svg', '')
    assert body.count('<svg xmlns') == 2 and 'synthetic faces, seed 0' in body
    names = re.findall(r'data-node="([^"]+)"', body)
    assert names == 2*[*g.nodes, 'output'] and body.count('<title>') == len(names)

DRIVE = """<script>
const log = []; window.addEventListener('error', e => log.push(e.message)); document.addEventListener('securitypolicyviolation', e => log.push('request ' + e.blockedURI));
window.addEventListener('load', () => setTimeout(() => {
  const $ = s => document.querySelector(s), $$ = s => [...document.querySelectorAll(s)], out = {};
  const [time, size] = $$('.dce-bar input'), move = (s, v) => { s.value = v; s.dispatchEvent(new Event('input', { bubbles: true })); };
  const look = () => $$('.dce-set').map(m => [...m.querySelectorAll('.e')].map(e => [!e.classList.contains('out'), e.classList.contains('neg'), +e.style.strokeWidth]));
  out.start = $$('.dce-bar output').map(o => o.textContent); out.still = look();
  move(time, 0); move(size, 60); out.moved = look(); out.said = $$('.dce-bar output').map(o => o.textContent); out.faith = $('.dce-faith').textContent;
  const pick = $('.dce-set select'); out.models = [...pick.options].map(o => o.textContent); pick.value = 2; pick.dispatchEvent(new Event('change', { bubbles: true })); out.third = look()[0];
  const n = $('g[data-node="mid.attn.h1"]'); n.dispatchEvent(new MouseEvent('click', { bubbles: true })); out.say = $('.dce-say').textContent; out.list = [...$('.dce-lists ol').children].map(x => x.textContent);
  out.dim = $$('svg.dim').length; out.on = $$('.dce-set')[0].querySelectorAll('.e.on').length;
  n.focus(); const key = k => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: k, bubbles: true, cancelable: true }));
  key('ArrowDown'); out.down = document.activeElement.dataset.node; key('ArrowRight'); out.right = $('.dce-bar output').textContent; out.stops = $$('g[tabindex="0"]').map(x => x.dataset.node);
  $('.dce-lists button').click(); out.edge = $('.dce-say').textContent; out.course = [...$('.dce-lists ol').children].map(x => x.textContent); out.one = $$('.dce-set')[0].querySelectorAll('.e.on').length;
  n.focus(); key('Escape'); out.free = $$('svg.dim').length; out.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth; out.log = log;
  document.body.dataset.result = JSON.stringify(out);
}, 300));
</script>"""

@pytest.fixture(scope='module')
def driven(tmp_path_factory):
    "{width: (table, graph, what a browser of that width found)}."
    if not CHROMIUM: pytest.skip('no chromium')
    use_style()
    g, found = small(), {}
    frame = scored(g)
    policy = "default-src 'none'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    for width in (900, 500):
        folder = tmp_path_factory.mktemp(f'w{width}')
        (folder/'page.html').write_text(
            '<!doctype html><html><head><meta charset="utf-8"><meta '
            f'http-equiv="Content-Security-Policy" content="{policy}"><style>{css()}</style></head>'
            f'<body>{edge_map(g, frame).body}{DRIVE}</body></html>')
        dom = subprocess.run([CHROMIUM, *FLAGS, f'--window-size={width},900',
                              f'--user-data-dir={folder/"profile"}', '--virtual-time-budget=5000',
                              '--dump-dom', (folder/'page.html').as_uri()],
                             capture_output=True, text=True, timeout=240).stdout
        found[width] = json.loads(html.unescape(re.search(r'data-result="(.*?)"', dom, re.S)[1]))
    return g, frame, found

def wanted(g, frame, dataset, seed, t, k):
    own = frame[(frame.dataset == dataset) & (frame.seed == seed) & (frame.timestep == t)]
    own = own.set_index(['sender', 'reader']).loc[g.edges]
    width = .8 + 5.2*np.sqrt(own.distance/own.distance.max())
    return list(zip(own['rank'] < k, own.error < 0, width))

def same(shown, want):
    assert [s[:2] for s in shown] == [[bool(a), bool(b)] for a, b, _ in want]
    np.testing.assert_allclose([s[2] for s in shown], [w for *_, w in want], atol=.03)

@pytest.mark.parametrize('width', (900, 500))
def test_sliders_and_models_paint_what_the_table_says(driven, width):
    g, frame, found = driven
    r, n = found[width], len(g.edges)
    assert not r['log'] and r['wide'] <= 0
    assert r['start'] == ['t = 300', f'{n//4} of {n} edges']
    k = round(n**.6)
    assert r['said'] == ['t = 900', f'{k} of {n} edges']
    for shown, d in zip(r['still'], ('synthetic', 'natural')):
        same(shown, wanted(g, frame, d, 0, 300, n//4))
    for shown, d in zip(r['moved'], ('synthetic', 'natural')):
        same(shown, wanted(g, frame, d, 0, 900, k))
    assert r['models'][2] == 'synthetic faces, seed 1'
    same(r['third'], wanted(g, frame, 'synthetic', 1, 900, k))
    asked = max(s for s in sizes_of(n) if s <= k)
    assert r['faith'] == f'faithful {asked/n:.2f} at {asked} edges'

def test_a_part_lists_its_edges_and_keys_lead_on(driven):
    g, frame, found = driven
    r = found[900]
    own = [e for e in g.edges if e[0] == 'mid.attn.h1' or e[1].rpartition('.')[0] == 'mid.attn.h1']
    t900 = frame[(frame.dataset == 'synthetic') & (frame.seed == 1) & (frame.timestep == 900)]
    rank = t900.set_index(['sender', 'reader'])['rank']
    assert r['say'].startswith('mid.attn.h1 at t = 900') and r['on'] == len(own) and r['dim'] == 2
    assert len(r['list']) == min(12, len(own))
    first = min(own, key=lambda e: rank[e])
    assert r['list'][0].startswith(first[0] + ' → ' + first[1].removesuffix('.q').removesuffix(
        '.k').removesuffix('.v'))
    assert r['down'] == 'mid.attn.mlp' and r['right'] == 't = 300'
    assert r['stops'] == ['mid.attn.mlp', 'output']  # one stop of the Tab key in each map
    assert r['one'] == 1 and 'patched alone' in r['edge'] and len(r['course']) == 3
    assert r['free'] == 0
