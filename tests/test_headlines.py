"""Every sentence that a page can say at its head or on the front page, for every way in which the
numbers can fall: made here, written to a file that can be read (`DIFFCIRC_SAID=said.txt`), and
checked for what goes wrong when sentences are put together."""
import itertools, os, re
from pathlib import Path
import pandas as pd, pytest
from diffcirc.book import headlines as h
from diffcirc.book.claims import audit_text, discoveries_text, tally_text, WORDS_OF
from diffcirc.book.findings import BADGE, badge, beaten_text
from diffcirc.book.front import cannot_say
from diffcirc.circuits.attribution import screening_lines
from diffcirc.circuits.corruptions import corruption_lines
from diffcirc.circuits.edges import edges_lines, graph_of
from diffcirc.circuits.estimators import estimator_lines
from diffcirc.circuits.faithful import found_line, necessary_line
from diffcirc.circuits.finding import MEASURES, finding_lines
from diffcirc.circuits.uses import RIVALS
from diffcirc.circuits.moments import ASPECTS, apart_line, order_line, size_line, time_line
from diffcirc.denoiser.diffusion import untrained
from diffcirc.denoiser.unet import UNetConfig
from diffcirc.faces.matching import attributes_balance
from diffcirc.latents.decoders import mixing_lines
from diffcirc.statistics.tests import Interval
from diffcirc.study.judging import judged_lines
from diffcirc.study.samples import copying_line
from diffcirc.trust.benchmark import weakest_text
from diffcirc.trust.calibration import level_lines
from diffcirc.trust.chance import chance_lines
from diffcirc.trust.planted_edges import planted_line
from diffcirc.trust.trials import SAID

DATASETS = ('synthetic', 'natural')

def row(mean, lo, hi): return pd.Series(dict(mean=mean, lo=lo, hi=hi))
def both(synthetic, natural): return dict(zip(DATASETS, (synthetic, natural)))
def twice(v): return both(v, v)

LOW, ODD, HIGH = row(.1, .05, .15), row(.3, -.2, .8), row(.9, .85, .95)
UNDER = row(-.1, -.15, -.05)
AREAS = (.9, .85, .95), (.6, .45, .75), (.5, float('nan'), float('nan'))
KNOWN = pd.DataFrame({'SMD before': [.3, .05], 'SMD after': [.02, .05]})
PAIRS = [both(*p) for p in itertools.product((LOW, ODD, HIGH), repeat=2)]

def models():
    for skill in PAIRS:
        for doubt in (set(), {('natural', 900)}, {('synthetic', 600), ('natural', 900)}):
            yield h.models_headline(twice(HIGH), twice(.9), skill, doubt)

def attention():
    for named, bare in itertools.product(PAIRS, (twice(.0), twice(.5), both(0., .99))):
        yield h.attention_headline(named, bare, twice(HIGH), .99)

def ablation():
    groups = 'middle', 'decoder late', 'encoder early'
    for top, impact, why in itertools.product(itertools.product(groups, repeat=2), PAIRS,
                                              ('', 'ours has no residual block')):
        yield h.ablation_headline(both(*top), impact, both(1, 7), twice(('skip1', HIGH)), why)
    for some in itertools.product(groups, repeat=4):
        times = [dict(zip((100, 300, 600, 900), v)) for v in (some, some[::-1])]
        for pair in (both(*times), twice(times[0])):
            yield h.ablation_headline(twice('middle'), twice(HIGH), both(1, 7),
                                      twice(('skip1', HIGH)), '', pair)

def temporal():
    mixed, same = both('middle', 'skip1'), twice('skip1')
    for gain, number, most in itertools.product(itertools.product((-1., 0., 1.), repeat=2), (1, 4),
                                                itertools.product((mixed, same), repeat=2)):
        yield h.temporal_headline(both(*gain), twice(number), 4, list(most), (975, 25))

def comparison():
    ends = {'above': (.1, .2), 'below': (-.2, -.1), 'around': (-.1, .1)}
    for kinds in itertools.product(ends, repeat=3):
        for halves, source in itertools.product((0., .5), ('orl', 'celeba')):
            rows = pd.DataFrame([dict(timestep=t, lo=ends[k][0], hi=ends[k][1], halves=halves)
                                 for t, k in zip((100, 300, 900), kinds)])
            for images in (0, 1, 3): yield h.comparison_headline(rows, source, images, 6)

def features():
    keys = [(d, k) for d in DATASETS for k in ('edges', 'texture')]
    for some in itertools.product((LOW, HIGH), repeat=4):
        for agree in (0, 1, 4):
            yield h.features_headline(dict(zip(keys, some)), dict.fromkeys(keys, .5), agree, 4)

def information():
    for early, late in ((.9, .5), (.5, .9)):
        s = pd.Series(dict(early=early, late=late))
        yield h.information_headline(pd.Series(dict(ksg=.1, gaussian=.8)), s, s/2, 1, 6)

def transfer():
    for ratio in (row(1.5, 1.2, 1.8), row(.5, .4, .8), row(1.1, .8, 1.4)):
        for removed in (1.5, float('nan')):
            yield h.transfer_headline(ratio, dict(removed=removed, direct=2., map=1.1,
                                                  untrained=1.2))

def alone():
    moved = (), ('new noise',), ('new noise', 'other faces'), ('a', 'b', 'c')
    for control, some in itertools.product((HIGH, ODD), moved):
        yield h.alone_headline(LOW, control, list(some), 4)

def outcomes():
    for far in ((.3, .4), (.8, 1.2), (1.1, 2.)):
        for second in ('skip1', 'decoder late'):
            found = both(*((k, (v, v - .2, v + .2)) for k, v in zip(('skip1', second), far)))
            yield h.outcomes_headline(found, both(-.3, .9), 300)

def probes():
    orders = twice(['edges', 'texture']), both([], ['edges']), twice([])
    for holds, order in itertools.product((0, 1, 12), orders):
        yield h.probes_headline(holds, 12, .5, 0., order)
    yield h.probes_headline(1, 1, 1., 1., orders[0])

def gradients():
    for gone, gone0, agree in itertools.product((0, 1, 5), (0, 7), (-.1, .5)):
        yield h.gradients_headline(gone, gone0, 40, agree, .6, 'enc1.res0')

def optimality():
    words = 'too much', 'too little', 'no measurably wrong amount'
    for some in itertools.product(words, repeat=3):
        places = dict(zip((('synthetic', 100), ('natural', 100), ('natural', 900)), some))
        yield h.optimality_headline(places, .12, 1.3)

def trials():
    for a, b, c in itertools.product((*SAID, 'not testable'), repeat=3):
        judged = pd.DataFrame([('zero-ablation', 'wired', a), ('patching', 'wired', b),
                               ('patching', 'copy', c), ('norm (baseline)', 'wired', 'fails')],
                              columns=['instrument', 'kind', 'verdict'])
        yield h.trials_headline(judged)
        yield h.trials_headline(judged, ['patching'])
    for took in (0, 1, 2, 3): yield h.trials_headline(judged, planted=(took, 3))

def audit():
    for n in itertools.product((0, 1, 9), repeat=3):
        counts = dict(zip(WORDS_OF['arithmetic'], n))
        if sum(n): yield h.audit_headline(counts, {'Table 4': (min(n[1], 1), 17), 'Table 2': (0, 3)})

def dictionaries():
    ends = (4, 0), (0, 0), (1, 3)
    for some in itertools.product(ends, repeat=2):
        yield h.dictionaries_headline(dict(zip(('random directions', 'channels'), some)), 4)

LEADS = [dict(zip(('random', 'channels', 'components'), some))
         for some in (*itertools.product((LOW, ODD), repeat=3), (LOW, ODD, UNDER),
                      (LOW, UNDER, UNDER), (ODD, UNDER, ODD), (UNDER,)*3)]

def naming():
    for a, b in itertools.product(LEADS, repeat=2): yield h.naming_headline(both(a, b))

def composition():
    for a, b in itertools.product(LEADS, repeat=2):
        yield h.composition_headline(a, b)
        # sentences that stand further down on the page
        yield h.Headline('When can the composition be read?', 'Not sooner than from all else.',
                         f'{h.attributes_said(a, b)} {h.sparse_said(a)}')

def pairs():
    many = dict(zip(('dark_skin', 'black_hair', 'hat', 'beard', 'smiling', 'glasses'),
                    (row(v, v - 50, v + 50) for v in range(600, 0, -100))))
    for some in itertools.product((LOW, ODD), repeat=5):
        gaps = dict(zip(itertools.pairwise(many), some))
        for ρ in (.5, float('nan')): yield h.pairs_headline(many, gaps, 6, ρ)
    for bare in ({}, dict(hat=float('nan')), dict(hat=500.), dict(hat=500., beard=300.)):
        yield h.pairs_headline(dict(hat=many['hat']), {}, 1, .5, bare)
    yield h.pairs_headline({}, {}, 6, float('nan'))

def alignment():
    for some in itertools.product((LOW, ODD), repeat=4):
        leads = dict(zip(('first order', 'random', 'components', 'whole'), some))
        for own in (LOW, ODD):
            learned = dict(own=own, others=LOW, apart=own)
            yield h.alignment_headline(leads, learned, HIGH, 4)

def control():
    places = list(itertools.product(('spatial', 'global'), ('early', 'middle', 'late')))
    for some in itertools.product((LOW, ODD), repeat=6):
        yield h.control_headline(dict(zip(places, some)), 32)
    yield h.control_headline(dict.fromkeys(places, ALIKE), 32)

ALIKE = pd.Series(dict(mean=.5, lo=.5, hi=.5, n=2))  # one value of two models

def beside_control():
    "What the page on control says below its tables."
    places = list(itertools.product(('spatial', 'global'), ('early', 'middle', 'late')))
    for a, b in itertools.product((LOW, ODD, ALIKE, -HIGH.rename(dict(lo='hi', hi='lo'))), repeat=2):
        then = dict.fromkeys(places, a)
        yield h.skips_said({k: dict(success=v, specific=w, gains=then)
                            for k, v, w in (('levelled', a, b), ('steered', b, a))})
    for leads, n in itertools.product(LEADS, (1, 3)):
        thirds = dict(zip(('early', 'middle', 'late'), leads.values()))
        yield h.attributes_turned('photographs', thirds)
        yield h.beside_controls(leads, n)

def gallery():
    for a, b in itertools.product(((.1, .2), (.2, .1)), repeat=2):
        moved = both(*(dict(zip(('early', 'late'), v)) for v in (a, b)))
        for n in (1, 5): yield h.gallery_headline(moved, n)

def stability():
    for some in itertools.product(PAIRS, repeat=3): yield h.stability_headline(*some)

# a mean with its interval, as `t_interval` gives it
FEW, MANY, NONE = ((m, m - .1, m + .1) for m in (-.3, .3, .05))

def t_like(v): return Interval(*v, 't')

def uses():
    words = 'holds', 'contradicted', 'inconclusive'
    for some in itertools.product(words, repeat=len(RIVALS)):
        for v in (FEW, MANY, (.1, float('nan'), float('nan'))):
            for nearest in itertools.product(*(r.values() for r in RIVALS.values())):
                yield h.uses_headline(dict(zip(RIVALS, some)),
                                      {k: (name, v) for k, name in zip(RIVALS, nearest)})

def finding():
    ask = 'Can the edges that matter be found without patching every edge?'
    for some in itertools.product((.2, .95), repeat=4):
        rows = [dict(dataset='a', seed=i, method=m, measure=k, rank=v) for m, v in
                zip(('gradient', 'IG, inputs', 'size', 'curvature'), some) for k in MEASURES
                for i in (0, 1)]
        yield h.Headline(ask, *finding_lines(pd.DataFrame(rows)))

def faithful():
    ask = 'Is a small circuit enough to stand for the network?'
    for some in itertools.product((True, False), repeat=3):
        f = pd.DataFrame([dict(zip(('found', 'beats', 'necessary'), some), dataset='a')]*6)
        f = pd.concat([f, f[:1].assign(dataset='b', found=True)])
        for v in (FEW, MANY, NONE, (float('nan'),)*3):
            yield h.Headline(ask, found_line(f), necessary_line(f, t_like(v)))

def moments():
    for a, b in itertools.product((FEW, MANY, NONE), repeat=2):
        for as_far, splits in itertools.product((0., .5), (2, 20)):
            beyond = pd.DataFrame(dict(as_far=[as_far, .5], splits=splits))
            yield h.Headline('Does denoising use one circuit or several?',
                             time_line(t_like(a), t_like(b)), size_line(beyond))
    # of what stands between on the page, two sentences
    more = 'One thing more is said of all of them. And another one.'
    orders = [dict(zip(ASPECTS, v)) for v in ((900., 500., 100.), (500., 300., 700.),
                                              (500., float('nan'), 700.))]
    words = 'holds', 'holds also without training', 'contradicted', 'inconclusive'
    for word, a, b, gap in itertools.product(words, orders, orders, (
            FEW, MANY, NONE, (float('nan'),)*3)):
        yield h.Headline('Does denoising use one circuit or several?', 'Of one kind.',
                         f'{more} {order_line(word, a, b)} '
                         f'{apart_line(t_like(MANY), t_like(NONE), t_like(gap))}')

def planted():
    for a, b in itertools.product((.5, .95), repeat=2):
        w = pd.DataFrame(dict(mean=[a, b], lo=a - .04, hi=a + .04), pd.MultiIndex.from_product(
            [['curvature'], MEASURES]))
        yield h.Headline('Do methods that find edges find planted circuits?',
                         planted_line(w) + '.')

def corruptions():
    for v, pairs, models in itertools.product((.5, .8, .95), (('noise', 'mean'), ('noise',)), (1, 3)):
        rows = [dict(first='image', second=b, rank=v - i/100, shared=.4, dataset='a', seed=s)
                for i, b in enumerate(pairs) for s in range(models)]
        yield h.Headline('Does the order of the edges depend on what stands in for them?',
                         *corruption_lines(pd.DataFrame(rows)))

def edges():
    graph = graph_of(untrained(UNetConfig(16, 1, 8, (1, 2), 1, 1, 16, 16, (1, 2, 1))).net)
    for worst, models in itertools.product((1e-7, .1), (1, 3)):
        f = pd.DataFrame(dict(dataset='a', seed=range(models), error=worst))
        yield h.Headline('Is what a part reads the sum of what the others write?',
                         *edges_lines(graph, f, f.assign(error=.2)))

def attribution():
    for some, models in itertools.product(itertools.product((.3, .6, .95), repeat=3), (1, 3)):
        rows = [dict(dataset='a', seed=s, forecast=f, rank=v + .001*s, typical=.1)
                for f, v in zip(('size', 'gradient', 'curvature'), some) for s in range(models)]
        yield h.Headline('Can a few backward passes foretell what a removal costs?',
                         *screening_lines(pd.DataFrame(rows)))

def walk():
    for n, stem, output in itertools.product((1, 2, 120), (0, 1, 9), (0, 1, 9)):
        for name in ('mid.res0', 'output'):
            yield h.walk_headline(n, 300, .91, 300, min(stem, n), min(output, n), (name, min(n, 2)))

def growth():
    axes = 'the images seen in training', 'the number of training images'
    turns = (0, 0, 0), (1, 0, 1), (1, 1, 0), (12, 3, 4)
    for some in itertools.product(turns, repeat=2): yield h.growth_headline(dict(zip(axes, some)), 37, 74)

def costs():
    fast, slow = (2.4, 2.2, 2.6), (.8, .7, 1.2)
    for a, b, met in itertools.product((fast, slow), (fast, slow), (0, 1, 9)):
        yield h.costs_headline(a, dict(nnsight=b, captum=a), dict(diffusers=b), (met, 9))
    yield h.costs_headline(fast, {}, {}, (1, 9))

def benchmark():
    for v in (.5, .95):
        worst = weakest_text(pd.DataFrame(dict(x=[1., v], y=[.9, v]), index=['patching', 'flow']))
        yield h.benchmark_headline(worst, ('patching', HIGH), ODD, ODD, .7)

def judging():
    for told, known in itertools.product(PAIRS, (twice(LOW), twice(HIGH))):
        yield h.Headline('Can drawn faces be told from real ones?', *judged_lines(told, known, told))

def samples():
    words = ('copies', 'smooth, not copied', 'no copying', 'not settled', 'no reference: no verdict',
             'one model: no verdict')
    for some in itertools.product(words, repeat=2):
        yield h.Headline('Do the networks repeat the faces they were trained on?',
                         copying_line(both(*some)))

def calibration():
    kept, broken = (pd.DataFrame(dict(rate=[.05, r], lo=[.04, r - .01])) for r in (.055, .4))
    for some in itertools.product((kept, broken), repeat=3):
        yield h.Headline('Is a p below .05 as rare as it promises?',
                         *level_lines(dict(zip(('image', 'model', 'both'), some))))

def chance():
    for some in itertools.product((0., .05, .2, .5), repeat=3):
        rates = pd.DataFrame(dict(rule=['level', 'order', 'kind'], pass_rate=some))
        yield h.Headline('How often would chance pass?', *chance_lines(rates))

def decoders():
    for some in itertools.product((.2, 1.), repeat=3):
        mean = pd.DataFrame(dict(aligned=1., mixed=some), ['DCI', 'MIG', 'effect strength, raw'])
        yield h.Headline('Do measures of autoencoders see whether a unit is one factor?',
                         *mixing_lines(mean))

def estimators():
    for a, b in ((.1, .4), (.0, .0)):
        found = pd.DataFrame(dict(floor=[0., b], order=[.2, .3], loss=[a, b]), ['renyi', 'ksg'])
        wins = pd.Series([.8, .2], ['renyi', 'ksg'])
        yield h.Headline('Can mutual information be estimated well enough?',
                         *estimator_lines(found, wins))

def anomalies():
    ahead = [('principal components', (.97, .96, .98)), ('equalized brightness', (.85, .8, .9))]
    ways = {'where it is added': FEW, 'where the error is divided by it': MANY}
    for n, worse in itertools.product((0, 1, 2), (0, 1, 12)):
        r = dict(area=(.77, .72, .81), better=ahead[:n], worse=worse, of=12, gains=ways)
        yield h.anomalies_headline({'drawn slices': r})
        yield h.anomalies_headline({'drawn slices': r, 'slices of patients': r})

def attended():
    for n, of in ((0, 1), (0, 2), (1, 2), (2, 2)):
        v = FEW, NONE, n, of
        yield h.attended_headline({'drawn slices': v})
        yield h.attended_headline({'drawn slices': v, 'the slices of the folder': v})

def uncertainty():
    known = 'noise is aleatoric', 'its size is right', 'novelty is epistemic'
    for some in itertools.product(('holds', 'contradicted', 'inconclusive'), repeat=3):
        yield h.uncertainty_headline(dict(zip(known, some)), dict.fromkeys(known, 'factor 2.0'))

def variants():
    for some in itertools.product((.1, .3, .7), repeat=2):
        share = [dict(variant=v, reconstruction=.25, seed=.75 - v) for v in some]
        two = dict(zip(('effect strength', 'DCI'), share))
        for words in ([], ['holds'], ['holds', 'contradicted', 'inconclusive']*2):
            for surely in (True, False): yield h.variants_headline(two, two, words, surely)
            yield h.variants_headline(two, dict(zip(two, share[::-1])), words, True)

def critic():
    for drawn, natural in itertools.product(AREAS, (None, *AREAS)):
        yield h.critic_headline(drawn, natural)

def matching():
    words = attributes_balance(KNOWN), attributes_balance(KNOWN[:0])
    for counts, said, far in itertools.product(((0, 0, 5), (0, 1, 5), (3, 1, 18), (4, 18, 18)), words,
                                               ('', '*slope* (SMD −0.7)')):
        yield h.matching_headline(counts, said.replace('**', ''), .4, (.05, .1, .15), far)

def drawings():
    for some in itertools.product(AREAS, repeat=2):
        yield h.drawings_headline(dict(zip(('hat', 'young'), some)))

MADE = [
    critic, matching, drawings, decoders, judging, samples, calibration, chance, estimators, anomalies, attended, uncertainty,
    variants,
    edges, attribution, walk, growth, costs, benchmark, uses, finding, faithful, moments, planted,
    corruptions, dictionaries, naming, composition, pairs, alignment, control, gallery, stability,
    models, attention, ablation, temporal, comparison, features, information, transfer, alone,
    outcomes, probes, gradients, optimality, trials, audit]

def others():
    "Sentences that are no headlines: counts of the ledger, limits of a build, badges."
    for some in itertools.product((0, 1, 5), repeat=3):
        words = [w for words in WORDS_OF.values() for w in words]
        kinds = {w: kind for kind, ws in WORDS_OF.items() for w in ws}
        rows = [dict(kind=kinds[w], verdict=w, q=.01) for i, w in enumerate(words)
                for _ in range(some[i % 3])]
        if not rows: continue
        L = pd.DataFrame(rows)
        yield from (tally_text(L), audit_text(L), discoveries_text(L))
    for n, m, source, seeds in itertools.product((0, 50), (4., 262.), ('orl', 'celeba'), (2, 6)):
        yield cannot_say(n, 74, m, 262, source, seeds, 2/2**seeds, {('natural', 900)})
    yield from (h.attributes_asked(names, HIGH) for names in ([], ['hat'], ['hat', 'gray_hair']))
    yield from beside_control()
    yield from (beaten_text(p) for p in (set(), {('natural', 900)}))
    for some in itertools.product([*BADGE, 'not testable'], repeat=2):
        yield f"{badge('patching', list(some))}.".replace('*patching*', 'Patching')

def all_said():
    heads = [(f.__name__, x) for f in MADE for x in f()]
    return ([(name, x.line) for name, x in heads] + [(name, x.more) for name, x in heads]
            + [('others', text) for text in others()])

SENTENCES = sorted(set(all_said()))

def test_all_can_be_read():
    "A person reads this file now and then."
    assert len(SENTENCES) > 300
    if path := os.environ.get('DIFFCIRC_SAID'):
        Path(path).write_text('\n'.join(f'{name}: {text}' for name, text in SENTENCES))

WRONG = {
    'two spaces, or one before a stop': r'  | [.,;:](?!\d)',
    'a stop, comma or colon twice': r'[.,;:][,;:]|\.\.',
    'nothing where something was meant': r'\bnan\b|None\b|\binf\b|\[\]|\(\)|–',
    'a word twice': r'\b(\w{2,})\s+\1\b',
    'a plural of one': r'(?<![\d.,–-])\b1 (models|networks|timesteps|places|statements|verdicts|'
                       r'claims|circuits|phases|intervals)\b',
    'a singular of many': r'\b([02-9]|\d\d+) (model|network|timestep|place|statement|verdict|claim|'
                          r'interval)\b(?! per)',
    'one are, many is': r'(?<![\d.,])(?<!= )\b1\*{0,2} (are|have|do|say|rest|hold|lie|change)\b|'
                        r'(?<!= )(?<!Eq\. )\b([02-9]|\d\d+)\*{0,2} (is|has|does|says|rests|holds|'
                        r'lies|changes)\b',
    'a minus that is a hyphen': r'(?<!\w)-\d'}

@pytest.mark.parametrize('what', WRONG)
def test_no_sentence_has(what):
    bad = [f'{name}: {text}' for name, text in SENTENCES if re.search(WRONG[what], text)]
    assert not bad, bad[:5]

def test_sentences_begin_and_end():
    def fits(text): return re.match(r'[A-Z\d*`{]', text) and text.rstrip('*').endswith('.')
    bad = [(n, t) for n, t in SENTENCES if t and not (fits(t) and t == t.strip())]
    assert not bad, bad[:5]

def test_answers_begin_with_a_capital_letter():
    begun = [(f.__name__, x.line) for f in MADE for x in f() if not re.match('[A-Z]', x.line)]
    assert not begun, begun[:5]

def test_brackets_close():
    for name, t in SENTENCES:
        for a, b in ('()', '[]', '{}'): assert t.count(a) == t.count(b), (name, t)

def test_lines_of_the_front_page_are_short_and_all_headlines_ask():
    heads = [x for f in MADE for x in f()]
    assert {len(x.question) > 10 and x.question.endswith('?') for x in heads} == {True}
    longest = max(heads, key=lambda x: len(x.line)).line
    assert len(longest) <= 250, longest
    sentences = [len(re.findall(r'[.?](?= |$)', f'{x.line} {x.more}')) for x in heads]
    assert max(sentences) <= 6, sentences

def test_each_question_is_asked_once():
    questions = [next(iter(f())).question for f in MADE]
    assert len(set(questions)) == len(questions)
