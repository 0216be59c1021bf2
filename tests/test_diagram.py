"The map of the network: what the notebook's cells cannot show (a fresh process, a real browser)."
import subprocess, sys, xml.etree.ElementTree as ET
import pytest
from diffcirc.core import PRESETS
from diffcirc.book.diagram import diagram, site_names
from diffcirc.book.style import css
from diffcirc.denoiser.unet import UNetConfig, meta_unet
from conftest import CHROMIUM

FLAGS = ('--headless --no-sandbox --disable-gpu --disable-quic --no-first-run '
         '--disable-background-networking --disable-component-update --disable-sync').split()

@pytest.mark.parametrize('name', PRESETS)
def test_each_site_once(name):
    net = meta_unet(UNetConfig.from_preset(PRESETS[name]))
    drawn = ET.fromstring(diagram(net).body)
    sites = [e.get('data-site') for e in drawn.iter() if e.get('data-site')]
    assert sorted(sites) == sorted(site_names(net))

def test_same_in_another_process():
    code = ('from diffcirc.book.diagram import diagram; '
            'from diffcirc.denoiser.unet import UNetConfig; '
            "print(diagram(UNetConfig(), {'stem': 1., 'skip1': -2.}, 'x').body)")
    def run(seed):
        env = {'PYTHONHASHSEED': seed, 'PATH': '', 'HOME': '/tmp'}
        return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                              check=True, env=env, cwd=__file__.rsplit('/', 2)[0]).stdout
    assert run('1') == run('2')

def test_unknown_site():
    with pytest.raises(ValueError, match='nearest names are enc1.res0'):
        diagram(UNetConfig(), {'enc1.re0': 1})

@pytest.mark.skipif(not CHROMIUM, reason='chromium is not installed: no browser to measure text in')
def test_text_stays_inside_its_box(tmp_path):
    """In a real browser no text is wider than the block it stands in, and the two texts of a block
    do not touch."""
    net = meta_unet(UNetConfig.from_preset(PRESETS['paper']))
    body = diagram(net, {n: -1234.5 for n in site_names(net)}, 'x', fmt='.1f').body
    js = """<script>const bad=[];document.querySelectorAll('[data-site]').forEach(g=>{const s=g.querySelector('rect,polygon').getBBox(),t=[...g.querySelectorAll('text')].map(e=>e.getBBox());
    t.forEach(b=>{if(b.x<s.x-.5||b.x+b.width>s.x+s.width+.5)bad.push(g.dataset.site+' text leaves its box')});
    if(t.length==2&&Math.abs(t[0].y-t[1].y)<4&&t[0].x+t[0].width>t[1].x)bad.push(g.dataset.site+' texts touch')});
    document.body.dataset.result=JSON.stringify(bad)</script>"""
    (tmp_path/'p.html').write_text(
        f'<!doctype html><meta charset="utf-8"><style>{css()}</style><body>{body}{js}</body>')
    dom = subprocess.run([CHROMIUM, *FLAGS, f'--user-data-dir={tmp_path/"profile"}',
                          '--virtual-time-budget=3000', '--dump-dom', (tmp_path/'p.html').as_uri()],
                         capture_output=True, text=True, timeout=120).stdout
    assert 'data-result="[]"' in dom, dom[dom.find('data-result'):][:500]
