"""Checks of the rendered book. Not collected by default: `make check-book` and CI run it after a
build (`pytest tests/built_book.py`)."""
import html, json, re
from pathlib import Path
import pytest, yaml

ROOT = Path(__file__).parent.parent
HTML = ROOT/'_build'/'html'
TOC = yaml.safe_load((ROOT/'_toc.yml').read_text())
PAGES = [TOC['root'], *(c['file'] for p in TOC['parts'] for c in p['chapters'])]

def read(page): return (HTML/f'{page}.html').read_text()

def test_every_page_is_there_and_index_leads_to_the_first():
    assert all((HTML/f'{p}.html').exists() for p in PAGES)
    assert 'nbs/index.html' in (HTML/'index.html').read_text()

@pytest.mark.parametrize('label', ['paper-table-2', 'paper-fig-4', 'paper-fig-9', 'tbl-accuracy',
                                   'fig-network', 'fig-samples-natural'])
def test_what_answers_the_paper_is_labelled_once(label):
    assert sum(f'id="{label}"' in read(p) for p in PAGES) == 1

@pytest.mark.parametrize('page', PAGES)
def test_no_request_to_another_host(page):
    media = r'<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc="([^"]+)"'
    kinds = 'stylesheet|preload|icon|prefetch|preconnect'
    links = rf'<link\b(?=[^>]*rel="(?:{kinds})")[^>]*href="([^"]+)"'
    loads = re.findall(f'{media}|{links}', read(page))
    assert not [u for pair in loads for u in pair if re.match(r'(https?:)?//', u)]

@pytest.mark.parametrize('page', [p for p in PAGES if (ROOT/f'{p}.ipynb').exists()])
def test_every_chapter_opens_in_colab_and_shows_no_directives(page):
    text = read(page)
    assert 'colab.research.google.com' in text
    assert '#| ' not in text or page == 'nbs/book/build'
    assert 'Traceback (most recent call last)' not in text
    assert re.search(r'<h1>[^#<]', text)

def test_every_claim_has_a_verdict_and_a_place_that_exists():
    claims = json.loads((HTML/'claims.json').read_text())
    stated = json.loads((ROOT/'diffcirc'/'paper_claims.json').read_text())
    assert [c['id'] for c in claims] == [c['id'] for c in stated]
    keys = {'id', 'kind', 'place', 'statement', 'paper', 'ours', 'interval', 'n_models', 'verdict',
            'reason', 'references', 'rule', 'p', 'q', 'source'}
    words = {'measured': {'holds', 'holds also without training', 'contradicted', 'inconclusive',
                          'not comparable'},
             'arithmetic': {'consistent', 'inconsistent', 'not checkable'}, 'design': {'set-up'}}
    assert all(set(c) == keys for c in claims)
    for c in claims:
        page, anchor = c['source'].split('.html#')
        assert f'id="{anchor}"' in read(page) and c['ours'], c
        assert c['verdict'] in words[c['kind']] and c['reason'], c
        assert (c['rule'] is None) == (c['kind'] != 'measured'), c
        assert c['q'] is None or c['p'] is not None and c['p'] <= c['q'] <= 1, c
        assert all(v is None or isinstance(v, float) for v in c['references'].values()), c
        if c['verdict'] == 'holds also without training': assert c['references'], c
        assert c['interval'] is None or c['interval'][0] <= c['interval'][1], c
    assert {c['verdict'] for c in claims if c['kind'] == 'arithmetic'} == words['arithmetic']
    accuracies = [c for c in claims if c['id'].startswith('accuracy-') and c['rule']]
    assert all({'untrained', 'linear'} <= set(c['references']) for c in accuracies)
    assert sum(c['interval'] is not None for c in claims) > 60

def test_every_table_and_figure_has_its_provenance():
    P = json.loads((HTML/'provenance.json').read_text())
    for p in PAGES:
        for label in set(re.findall(r'\bid="((?:tbl|fig|paper)-[\w-]+)"', read(p))):
            assert P['where'][label] == p, label
    for p, r in P['pages'].items():
        assert {'version', 'code', 'preset', 'config', 'tables', 'peak_memory_mb', 'environment',
                'made'} <= set(r), p
        assert r['page_seconds'] is not None, p
        assert read(p).count('<details class="dc-prov">') == 1, p
    measured = [r for r in P['pages'].values() if r['tables']]
    assert len(measured) > 8
    assert all(r['runs'] and r['seeds'] and r['data'] and r['training_seconds']
               for r in measured if 'runs' in r)
    assert len({(r['code'], r['preset'], r['version']) for r in P['pages'].values()}) == 1

APART = ('pre, table, details, script, style, svg, figcaption, .caption, .admonition.dropdown, '
         '.headerlink, .dc-fig, .dcm, .prev-next-area')  # code, tables, figures and their captions

def prose(page):
    "The words of a page's sentences."
    from bs4 import BeautifulSoup
    article = BeautifulSoup(read(page), 'html.parser').find('article')
    for x in article.select(APART): x.decompose()
    return re.findall(r"[^\W\d_][\w'’-]*", article.get_text(' '))

MOST_WORDS = 2500  # of a page that somebody reads to its end

@pytest.mark.parametrize('page', [p for p in PAGES if p != 'nbs/references'])
def test_a_page_is_short_enough_to_be_read(page):
    assert 20 < len(prose(page)) <= MOST_WORDS

ANSWERED = ['study/models', *(f'circuits/{c}' for c in (
    'attention', 'ablation', 'temporal', 'comparison', 'features', 'information', 'transfer',
    'interruption', 'outcomes', 'probes', 'gradients', 'optimality')), 'trust/trials', 'trust/audit',
    *(f'concepts/{c}' for c in (
        'dictionaries', 'naming', 'composition', 'pairs', 'alignment', 'control',
        'gallery', 'stability'))]

@pytest.mark.parametrize('page', ANSWERED)
def test_a_chapter_begins_with_its_answer_and_its_picture(page):
    text = read(f'nbs/{page}')
    text = text[text.rindex('<h1>'):]  # what stands before is the frame of the page
    heads = [m.start() for m in re.finditer(r'<h2', text)]
    answer = text.index('dc-answer')
    assert answer < heads[0]
    labels = [m.start() for m in re.finditer(r'id="(?:fig|tbl|paper)-', text[answer:heads[0]])]
    assert labels, page
    assert text.count('dc-answer') == 1
    told = re.search('<strong>(.*?)</strong>', text[answer:heads[0]], re.S)
    said = html.unescape(re.sub('<.*?>', '', told[1])).split()[:3]
    for label in re.findall('class="dc-fig"[^>]* aria-label="([^"]*)"', text[answer:heads[0]]):
        assert html.unescape(label).split()[:3] == said, label  # the picture tells the answer

def test_the_front_page_leads_to_every_answer_within_two_clicks():
    first = read(PAGES[0])
    linked = {p for p in PAGES if f'{p.removeprefix("nbs/")}.html' in first}
    two = first + ''.join(map(read, linked))
    for page in ANSWERED: assert f'{page}.html' in two, page
    assert len(re.findall('dcu-first', first)) == 3 and 'dc-cannot' in first
    found = first[first.index('<section id="what-it-found"'):]
    assert 5 <= found[:found.index('</ul>')].count('<li>') <= 7

def test_words_of_the_glossary_explain_themselves():
    links = [(p, a) for p in PAGES if p != 'nbs/glossary'
             for a in re.findall(r'class="dc-term" href="[^"]*#([^"]+)"', read(p))]
    assert len(links) > len(PAGES)
    there = read('nbs/glossary')
    for page, anchor in links: assert f'id="{anchor}"' in there, (page, anchor)
    for p in PAGES:
        anchors = [a for q, a in links if q == p]
        assert len(anchors) == len(set(anchors)), p

def test_no_page_prints_a_warning_of_python():
    for p in PAGES: assert not re.search(r'\b[A-Z]\w+Warning: ', read(p)), p

def test_no_notebook_of_the_repository_holds_outputs():
    for p in (ROOT/'nbs').rglob('*.ipynb'):
        assert not any(c.get('outputs') for c in json.loads(p.read_text())['cells']), p

def test_pictures_of_the_readme_exist():
    pictures = re.findall(r'!\[[^]]*\]\(([^)]+)\)', (ROOT/'README.md').read_text())
    assert all((ROOT/p).exists() for p in pictures)

def test_planted_circuits_stand_beside_the_book():
    import pandas as pd
    d = pd.read_csv(HTML/'planted.csv')
    assert {'instrument', 'circuit_kind', 'seed', 'timestep', 'auc', 'precision_at_k'} <= set(d)
    assert d.circuit_kind.nunique() >= 4 and d.seed.nunique() >= 2
    assert d.auc.between(0, 1).all() and d.precision_at_k.between(0, 1).all()
    # wires need no training, so this holds at every preset
    assert (d[(d.instrument == 'mean-ablation') & (d.circuit_kind == 'wired')].auc > .99).all()

def test_the_packages_stand_beside_the_book():
    parts = json.loads((HTML/'sbom.json').read_text())['components']
    assert {'torch', 'numpy', 'jupyter-book'} <= {p['name'] for p in parts}

def test_skill_stands_beside_the_book():
    import pandas as pd
    d = pd.read_csv(HTML/'skill.csv')
    assert list(d) == ['dataset', 'timestep', 'accuracy', 'linear', 'skill', 'lo', 'hi', 'n_models']
    assert set(d.dataset) == {'synthetic', 'natural'} and d.timestep.nunique() == 4
    # skill is a mean over models, so that it is near, not at, that of the mean accuracies
    assert ((d.lo <= d.skill) & (d.skill <= d.hi)).all()
    assert (d.linear > 0).all() and (d.n_models >= 2).all()

def test_concepts_stand_beside_the_book():
    import pandas as pd
    from diffcirc.concepts.stability import CONCEPT_COLUMNS
    d = pd.read_csv(HTML/'concepts.csv')
    assert list(d) == CONCEPT_COLUMNS and set(d.dataset) == {'synthetic', 'natural'}
    assert not d.duplicated(['dictionary', 'dataset', 'model_seed', 'timestep', 'k']).any()
    assert d.dead.between(0, 1).all() and d.iou.dropna().between(0, 1).all() and d.iou.notna().any()
    assert d.groupby('dataset').model_seed.nunique().min() >= 2

def test_circuits_stand_beside_the_book():
    import pandas as pd
    from diffcirc.circuits.faithful import CIRCUIT_COLUMNS
    from diffcirc.circuits.finding import METHODS
    d = pd.read_csv(HTML/'circuits.csv')
    assert list(d) == [*CIRCUIT_COLUMNS] and set(d.dataset) == {'synthetic', 'natural'}
    assert not d.duplicated(['dataset', 'seed', 'timestep', 'corruption', 'method']).any()
    assert set(d.corruption) == {'image', 'noise', 'mean', 'constant', 'attribute'}
    assert set(d.method) <= set(METHODS) and {'exact', 'curvature', 'AtP*', 'learned'} <= set(d.method)
    assert d.spearman_exact.between(-1, 1).all() and (d.edges > 100).all()
    assert d.beats_random.notna().any() and d.groupby('dataset').seed.nunique().min() >= 2

def test_autoencoders_stand_beside_the_book():
    import pandas as pd
    from diffcirc.latents.variants import VAE_COLUMNS
    d = pd.read_csv(HTML/'vae.csv')
    assert list(d) == VAE_COLUMNS and {'FactorVAE', 'VAE', 'β-VAE', 'linear', 'aligned'} <= set(d.variant)
    assert not d.duplicated(['variant', 'seed', 'data', 'stage', 'metric']).any()
    assert d[d.data == 'sprites'].groupby('variant').seed.nunique()[['VAE', 'β-VAE']].min() >= 2
    assert d[d.data == 'planted'].truth.notna().any() and d[d.data != 'planted'].truth.isna().all()

def test_detectors_of_slices_stand_beside_the_book():
    import pandas as pd
    from diffcirc.latents.anomalies import MISS, MRI_COLUMNS, REFUSALS, SAVED
    from diffcirc.latents.rivals import NETWORKS, OTHERS
    d = pd.read_csv(HTML/'mri.csv')
    assert list(d) == MRI_COLUMNS and 'phantom' in set(d.source)
    assert set(d.model) == {*NETWORKS, *OTHERS} and set(d.unit) == {'slice', 'pixel'}
    assert not d.duplicated(['source', 'model', 'score', 'unit', 'metric']).any()
    assert d.prevalence.between(0, 1).all() and d.value[d.metric != SAVED].between(0, 1).all()
    unsure = {*list(NETWORKS)[:3], 'untrained', 'deep ensemble'}
    of = d.groupby('metric').model.agg(set)
    for metric in (MISS, SAVED, 'within 95 %', 'errors, 50 % kept'): assert of[metric] == unsure
    assert set(d.score[d.metric == SAVED]) == {f'refused by {how}' for how in REFUSALS}
    for _, g in d.groupby('source'): assert set(g.metric) == set(d.metric)

def test_pass_rates_of_the_rules_stand_beside_the_book():
    import pandas as pd
    d = pd.read_csv(HTML/'rules.csv')
    assert {'rule', 'claims', 'null', 'pass_rate'} <= set(d) and d.null.str.len().min() > 10
    assert d.pass_rate.between(0, 1).all() and d.rule.is_unique
    claims = json.loads((HTML/'claims.json').read_text())
    ruled = {c['id']: c['rule'] for c in claims if c['kind'] == 'measured'}
    of_companions = d.rule.str.match('(vae|slices)-')
    own = d[~of_companions]
    assert {id: r.rule for r in own.itertuples() for id in r.claims.split()} == ruled
    for r in own.itertuples(): assert r.rule in read('nbs/book/claims'), r.rule
    assert set(d.rule[of_companions]) >= {'vae-circuits', 'slices-roc'}

def test_the_benchmark_stands_beside_the_book():
    import pandas as pd
    from diffcirc.trust.candidates import BASELINES, CANDIDATES
    d = pd.read_csv(HTML/'benchmark.csv')
    assert list(d) == ['family', 'network', 'half', 'instrument', 'auc', 'precision_at_k']
    assert set(d.half) == {'fit', 'judged'} and (d.half == 'judged').eq(d.network % 2 == 1).all()
    assert d.instrument.nunique() >= len(CANDIDATES) and set(BASELINES) <= set(d.instrument)
    assert d.auc.between(0, 1).all() and d.precision_at_k.between(0, 1).all()
    assert not d.duplicated(['family', 'network', 'instrument']).any()
    # dead ends carry nothing to the output, at any preset
    assert (d[(d.instrument == 'mean-ablation') & (d.family == 'matched')].auc > .99).all()
