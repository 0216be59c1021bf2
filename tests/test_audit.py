"""The audit accuses nobody falsely: what is rounded from true values is never called inconsistent,
and what is changed by more than its rounding is."""
import copy, math
import numpy as np
from hypothesis import assume, given, settings, strategies as some
from scipy import stats
from diffcirc.trust.audit import (
    AUDITED_GROUPS, AUDITED_METRICS, HEADS, Span, audit, audit_table3, audit_table4, ceiling,
    d_span, n_span, printed)
from diffcirc.core import paper_claims
from diffcirc.statistics.effects import n_of, p_of
from diffcirc.core import paper_numbers

positive, digits = some.floats(.01, 50), some.integers(1, 4)

@given(some.floats(-50, 50), digits)
def test_a_printed_value_stands_for_what_was_rounded(x, k):
    s = printed(round(x, k), 10.**-k)
    assert s.lo - 1e-9 <= x <= s.hi + 1e-9

@given(some.floats(-3, 3), positive, positive, digits)
def test_true_effect_lies_in_the_span_of_its_roundings(diff, s1, s2, k):
    r = 10.**-k
    assume(min(s1, s2) > 2*r)
    span = d_span(printed(round(diff, k), r), printed(round(s1, k), r), printed(round(s2, k), r))
    d = diff/math.sqrt((s1**2 + s2**2)/2)
    assert span.lo - 1e-9 <= d <= span.hi + 1e-9

@given(some.floats(.02, 3), some.floats(1e-6, .9))
def test_n_and_p_are_inverse(d, p):
    n = n_of(d, p)
    assert n == 2 or math.isclose(p_of(d, n), p, rel_tol=1e-6)

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
    assume(round(S, k) + r < 1)
    s = ceiling(printed(round(H, k), r), printed(round(S, k), r))
    assert s.lo - 1e-9 <= h_max <= s.hi + 1e-9

def table4(C, N, rng):
    "Table 4 written from true values of a study with N images per dataset."
    C = copy.deepcopy(C)
    C['n-per-condition']['values'] = [N]
    for k in AUDITED_METRICS:
        m, s1, s2 = rng.uniform(.1, 5), *rng.uniform(.05, .4, 2)
        d = rng.uniform(-.6, .6)
        diff = d*math.sqrt((s1**2 + s2**2)/2)
        p = p_of(d, N)
        C[f'table4-{k}']['values'] = [round(v, 3) for v in (m, s1, m + diff, s2)]
        C[f'table4-difference-{k}'] |= dict(values=[round(diff, 3)], paper='x')
        C[f'table4-d-{k}'] |= dict(values=[round(abs(d), 2)], paper='x')
        C[f'table4-p-{k}'] |= (dict(values=[.001], paper='< 0.001') if p < .001
                               else dict(values=[round(p, 3)], paper='x'))
    return C

@settings(deadline=None, max_examples=40)
@given(some.integers(0, 10**6), some.sampled_from([50, 100, 400]))
def test_a_table_without_faults_passes(seed, N):
    F = audit_table4(table4(paper_claims(), N, np.random.default_rng(seed)))
    assert {f.verdict for f in F} == {'consistent'}, [f for f in F if f.verdict != 'consistent']

@settings(deadline=None, max_examples=40)
@given(some.integers(0, 10**6), some.sampled_from(AUDITED_METRICS))
def test_a_wrong_d_is_found(seed, k):
    C = table4(paper_claims(), 100, np.random.default_rng(seed))
    C[f'table4-d-{k}']['values'][0] += .3
    assert [f.id for f in audit_table4(C) if f.verdict == 'inconsistent'] == [f'table4-d-{k}']

@given(some.floats(.005, .2), some.lists(some.floats(.1, 3), min_size=7, max_size=7, unique=True))
def test_impacts_follow_from_their_errors(base, impacts):
    C = copy.deepcopy(paper_claims())
    C['table3-baseline']['values'] = [round(base, 4)]
    for g, i in zip(AUDITED_GROUPS, impacts):
        C[f'table3-arithmetic-{g}']['values'] = [round(base*(1 + i), 4), round(i, 3)]
    assert {f.verdict for f in audit_table3(C) if 'arithmetic' in f.id} == {'consistent'}

def test_against_the_text_of_the_paper():
    "The findings that the notes on the paper name, computed independently there."
    A = audit().set_index('id')
    at_fault = [*(f'table4-d-{k}' for k in AUDITED_METRICS), 'table4-one-n', 'table1-p-600',
                'table3-ranks', 'feature-complexity-monotonic', 'feature-complexity-consistent',
                'table4-p001', 'power', 'divergence-smallest', 'head-names']
    assert set(A.verdict[at_fault]) == {'inconsistent'}
    # 0.120/0.113 is 1.062, but 1.068 lies within what rounding allows
    assert A.verdict['table1-ratio-300'] == 'consistent'
    d = A.loc['table4-d-circuit']
    e = (.116 - .114)/math.sqrt((.007**2 + .008**2)/2)
    assert d.lo < e < d.hi
    t = stats.ttest_ind_from_stats(.116, .007, 100, .120, .009, 100)
    assert f'{t.pvalue:.0e}' == '6e-04'

# Where paper.json and paper_claims.json hold the same number, they agree.
P, C = paper_numbers(), paper_claims()
def v(id): return C[id]['values']
def bound(id): return C[id]['paper'].startswith('<')

def test_accuracy_and_complexity_are_the_same_in_both_files():
    for d in ('synthetic', 'natural'):
        for t, a in zip(P['accuracy']['timesteps'], P['accuracy'][d]):
            assert v(f'accuracy-{d}-{t}') == [a]
    fc = P['feature_complexity']
    for t, s, n in zip(fc['timesteps'], fc['synthetic'], fc['natural']):
        assert v(f'feature-complexity-{t}') == [s, n]

def test_table1_is_the_same_in_both_files():
    for t, *m, ratio, p, is_bound in P['table1']['rows']:
        assert v(f'table1-{t}') == m and v(f'table1-ratio-{t}') == [ratio]
        assert v(f'table1-p-{t}') == [p] and bound(f'table1-p-{t}') == is_bound

def test_table2_is_the_same_in_both_files():
    for k, (_, f, H, hs, S, ss, i, pattern) in zip(HEADS, P['table2']['rows']):
        assert v(f'table2-entropy-{k}') == [H, hs] and v(f'table2-specialization-{k}') == [S, ss]
        assert v(f'table2-importance-{k}') == [i] and C[f'table2-pattern-{k}']['paper'] == pattern
        assert f in C[f'table2-entropy-{k}']['statement']
    divergence = P['divergence']
    for w in ('entropy', 'specialization'):
        assert [v(f'divergence-{w}-{t}')[0] for t in divergence['timesteps']] == divergence[w]

def test_table3_is_the_same_in_both_files():
    for g, base, mse, i, _ in P['table3']['rows']:
        k = g.replace(' ', '-')
        assert v(f'table3-arithmetic-{k}') == [mse, i] and v(f'table3-{k}') == [i]
        assert v('table3-baseline') == [base]
    assert v('table3-ranks') == [row[4] for row in P['table3']['rows']]

def test_table4_is_the_same_in_both_files():
    for k, (_, *m, diff, d, p, is_bound) in zip(AUDITED_METRICS, P['table4']['rows']):
        assert v(f'table4-{k}') == m and v(f'table4-difference-{k}') == [diff]
        assert v(f'table4-d-{k}') == [d]
        assert v(f'table4-p-{k}') == [p] and bound(f'table4-p-{k}') == is_bound

def test_flow_transfer_and_phases_are_the_same_in_both_files():
    for s in ('early', 'middle', 'late'):
        assert v(f'flow-{s}-synthetic') == v(f'flow-{s}-natural') == P['information_flow'][s]
    for k, n in (('accuracy', 'cross-dataset accuracy'), ('features', 'feature transferability'),
                 ('robustness', 'circuit robustness')):
        assert v(f'transfer-{k}') == P['transfer'][n]
    temporal = P['temporal']
    assert [v(f'phase-complexity-{k}') for k in (1, 2, 3)] == temporal['complexity'][:3]
    assert ([sorted(v(f'phase-boundary-{k}')) for k in (1, 2, 3)]
            == [sorted(b) for b in temporal['boundaries']])

def test_the_design_is_the_same_in_both_files():
    design = P['design']
    assert v('parameters') == [P['parameters']['value']/1e6]
    assert v('n-per-condition') == [design['n_per_condition']] and v('power') == [design['power']]
    assert v('images-synthetic') == [design['n_images']]

def test_the_file_of_claims_is_sound():
    C = paper_claims()
    for k, c in C.items():
        assert c['statement'] and c['place'] and c['paper'] and isinstance(c['values'], list), k
        u = c['rounding'] if isinstance(c['rounding'], list) else [c['rounding']]*len(c['values'])
        assert len(u) == len(c['values']), k
        # no more digits than its rounding says
        for x, r in zip(c['values'], u):
            assert x is None or math.isclose(x/r, round(x/r), abs_tol=1e-6), (k, x)
