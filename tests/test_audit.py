"The audit accuses nobody falsely: what is rounded from true values is never called inconsistent, and what is changed by more than its rounding is."
import copy, json, math
from pathlib import Path
import numpy as np, pytest
from hypothesis import assume, given, settings, strategies as some
from scipy import stats
import diffcirc
from diffcirc.audit import (audit, audit_eq2, audit_table1, audit_table3, audit_table4, ceiling, claims, d_span, n_of,
                            n_span, over, p_of, printed, Span, AUDITED_METRICS, AUDITED_GROUPS, HEADS)

positive, digits = some.floats(.01, 50), some.integers(1, 4)
at = lambda x, k: round(x, k)

@given(some.floats(-50, 50), digits)
def test_a_printed_value_stands_for_what_was_rounded(x, k):
    s = printed(at(x, k), 10.**-k); assert s.lo - 1e-9 <= x <= s.hi + 1e-9

@given(some.floats(-3, 3), positive, positive, digits)
def test_true_effect_lies_in_the_span_of_its_roundings(diff, s1, s2, k):
    r = 10.**-k; assume(min(s1, s2) > 2*r)
    span = d_span(printed(at(diff, k), r), printed(at(s1, k), r), printed(at(s2, k), r))
    d = diff/math.sqrt((s1**2 + s2**2)/2)
    assert span.lo - 1e-9 <= d <= span.hi + 1e-9

@given(some.floats(.02, 3), some.floats(1e-6, .9))
def test_n_and_p_are_inverse(d, p):
    n = n_of(d, p); assert n == 2 or math.isclose(p_of(d, n), p, rel_tol=1e-6)

@given(some.floats(.05, 2), some.integers(5, 3000), some.floats(.001, .02))
def test_the_true_n_is_never_excluded(d, n, r):
    p = p_of(d, n)
    assume(1e-200 < p < .95)
    s = n_span(Span(d - r, d + r), Span(p*.9, p*1.1))
    assert s.lo <= n*(1 + 1e-6) and n <= s.hi*(1 + 1e-6)

@given(positive, some.floats(.01, .95), digits)
def test_a_common_ceiling_is_found(h_max, S, k):
    r = 10.**-k
    H = h_max*(1 - S)
    assume(at(S, k) + r < 1)
    s = ceiling(printed(at(H, k), r), printed(at(S, k), r))
    assert s.lo - 1e-9 <= h_max <= s.hi + 1e-9

def table4(C, N, rng):
    "Table 4 written from true values of a study with N images per dataset."
    C = copy.deepcopy(C); C['n-per-condition']['values'] = [N]
    for k in AUDITED_METRICS:
        m, s1, s2 = rng.uniform(.1, 5), *rng.uniform(.05, .4, 2)
        d = rng.uniform(-.6, .6)
        diff = d*math.sqrt((s1**2 + s2**2)/2)
        p = p_of(d, N)
        C[f'table4-{k}']['values'] = [at(v, 3) for v in (m, s1, m + diff, s2)]
        C[f'table4-difference-{k}'] |= dict(values=[at(diff, 3)], paper='x')
        C[f'table4-d-{k}'] |= dict(values=[at(abs(d), 2)], paper='x')
        C[f'table4-p-{k}'] |= dict(values=[.001], paper='< 0.001') if p < .001 else dict(values=[at(p, 3)], paper='x')
    return C

@settings(deadline=None, max_examples=40)
@given(some.integers(0, 10**6), some.sampled_from([50, 100, 400]))
def test_a_table_without_faults_passes(seed, N):
    F = audit_table4(table4(claims(), N, np.random.default_rng(seed)))
    assert {f.verdict for f in F} == {'consistent'}, [f for f in F if f.verdict != 'consistent']

@settings(deadline=None, max_examples=40)
@given(some.integers(0, 10**6), some.sampled_from(AUDITED_METRICS))
def test_a_wrong_d_is_found(seed, k):
    C = table4(claims(), 100, np.random.default_rng(seed))
    C[f'table4-d-{k}']['values'][0] += .3
    assert [f.id for f in audit_table4(C) if f.verdict == 'inconsistent'] == [f'table4-d-{k}']

@given(some.floats(.005, .2), some.lists(some.floats(.1, 3), min_size=7, max_size=7, unique=True))
def test_impacts_follow_from_their_errors(base, impacts):
    C = copy.deepcopy(claims()); C['table3-baseline']['values'] = [at(base, 4)]
    for g, i in zip(AUDITED_GROUPS, impacts): C[f'table3-arithmetic-{g}']['values'] = [at(base*(1 + i), 4), at(i, 3)]
    assert {f.verdict for f in audit_table3(C) if 'arithmetic' in f.id} == {'consistent'}

def test_against_the_text_of_the_paper():
    "The findings that the notes on the paper name, computed independently there."
    A = audit().set_index('id')
    assert ({A.verdict[f'table4-d-{k}'] for k in AUDITED_METRICS} == {'inconsistent'}
            and A.verdict['table4-one-n'] == 'inconsistent' and A.verdict['table1-p-600'] == 'inconsistent')
    assert ({A.verdict[k] for k in ('table3-ranks', 'feature-complexity-monotonic', 'feature-complexity-consistent',
                                    'table4-p001', 'power', 'divergence-smallest', 'head-names')} == {'inconsistent'})
    # 0.120/0.113 is 1.062, but 1.068 lies within what rounding allows
    assert A.verdict['table1-ratio-300'] == 'consistent'
    d = A.loc['table4-d-circuit']
    e = (.116 - .114)/math.sqrt((.007**2 + .008**2)/2)
    assert d.lo < e < d.hi
    t = stats.ttest_ind_from_stats(.116, .007, 100, .120, .009, 100)
    assert f'{t.pvalue:.0e}' == '6e-04'

def test_one_number_one_value():
    "Where paper.json and paper_claims.json hold the same number, they agree."
    P, C = json.loads((Path(diffcirc.__file__).parent/'paper.json').read_text()), claims()
    v = lambda k: C[k]['values']
    for d in ('synthetic', 'natural'):
        for t, a in zip(P['accuracy']['timesteps'], P['accuracy'][d]): assert v(f'accuracy-{d}-{t}') == [a]
    for t, s, n in zip(P['feature_complexity']['timesteps'], P['feature_complexity']['synthetic'],
                       P['feature_complexity']['natural']):
        assert v(f'feature-complexity-{t}') == [s, n]
    for t, *m, ratio, p, bound in P['table1']['rows']:
        assert (v(f'table1-{t}') == m and v(f'table1-ratio-{t}') == [ratio] and v(f'table1-p-{t}') == [p]
                and C[f'table1-p-{t}']['paper'].startswith('<') == bound)
    for k, (_, f, H, hs, S, ss, i, pat) in zip(HEADS, P['table2']['rows']):
        assert (v(f'table2-entropy-{k}') == [H, hs] and v(f'table2-specialization-{k}') == [S, ss]
                and v(f'table2-importance-{k}') == [i] and C[f'table2-pattern-{k}']['paper'] == pat
                and f in C[f'table2-entropy-{k}']['statement'])
    for g, base, mse, i, _ in P['table3']['rows']:
        k = g.replace(' ', '-')
        assert v(f'table3-arithmetic-{k}') == [mse, i] and v(f'table3-{k}') == [i] and v('table3-baseline') == [base]
    assert v('table3-ranks') == [r[4] for r in P['table3']['rows']]
    for k, (_, *m, diff, d, p, bound) in zip(AUDITED_METRICS, P['table4']['rows']):
        assert (v(f'table4-{k}') == m and v(f'table4-difference-{k}') == [diff] and v(f'table4-d-{k}') == [d]
                and v(f'table4-p-{k}') == [p] and C[f'table4-p-{k}']['paper'].startswith('<') == bound)
    for w in ('entropy', 'specialization'):
        assert [v(f'divergence-{w}-{t}')[0] for t in P['divergence']['timesteps']] == P['divergence'][w]
    for s in ('early', 'middle', 'late'):
        assert v(f'flow-{s}-synthetic') == v(f'flow-{s}-natural') == P['information_flow'][s]
    for k, n in (('accuracy', 'cross-dataset accuracy'), ('features', 'feature transferability'),
                 ('robustness', 'circuit robustness')):
        assert v(f'transfer-{k}') == P['transfer'][n]
    assert ([sorted(v(f'phase-boundary-{k}')) for k in (1, 2, 3)] == [sorted(b) for b in P['temporal']['boundaries']]
            and v('parameters') == [P['parameters']['value']/1e6]
            and v('n-per-condition') == [P['design']['n_per_condition']])
    assert ([v(f'phase-complexity-{k}') for k in (1, 2, 3)] == P['temporal']['complexity'][:3]
            and v('power') == [P['design']['power']] and v('images-synthetic') == [P['design']['n_images']])

def test_the_file_of_claims_is_sound():
    C = claims()
    for k, c in C.items():
        assert c['statement'] and c['place'] and c['paper'] and isinstance(c['values'], list), k
        u = c['rounding'] if isinstance(c['rounding'], list) else [c['rounding']]*len(c['values'])
        assert len(u) == len(c['values']), k
        # no more digits than its rounding says
        for x, r in zip(c['values'], u): assert x is None or math.isclose(x/r, round(x/r), abs_tol=1e-6), (k, x)
