"""The truth of planted networks is what construction says, checked without the instruments that are
judged by it; and an instrument that is broken does not pass."""
import json
from pathlib import Path
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from diffcirc.denoiser.diffusion import ᾱ, image_errors, make_exam
from diffcirc.denoiser.sites import capturing, editing, mean, patch, sites
from diffcirc.trust import able, benchmark, candidates, families
from diffcirc.trust.trials import GOOD

ROOT = Path(__file__).parent.parent

@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad(): yield

def parts(p, t, true):
    return [s for s, v in p.at(t).items() if (v > 0) == true]

def relative(p, t, *cuts):
    "Errors with each of `cuts` replaced by its mean, as multiples of the clean error."
    clean, *others = families.errors_without(p, [[], *cuts], t, 48)
    return np.array(others)/clean

# ------------------------------------------------------------------ truth

@pytest.mark.parametrize('family', families.BY_HAND)
@pytest.mark.parametrize('seed', [0, 3])
def test_what_is_false_can_all_be_cut_at_once(family, seed):
    "The function is kept (or bettered, where useless parts act) without all that is not the circuit."
    p = families.BY_HAND[family](seed)
    for t in families.TIMES:
        kept, = relative(p, t, parts(p, t, False))
        assert kept < 1.001 and (family in ('useless', 'graded') or kept > .999), (t, kept)

@pytest.mark.parametrize('family', [f for f in families.BY_HAND if f != 'backup'])
def test_what_is_true_cannot_be_cut(family):
    p = families.BY_HAND[family](1)
    for t in families.TIMES:
        assert relative(p, t, *([s] for s in parts(p, t, True))).min() > 1.002

@pytest.mark.parametrize('seed', range(6))
def test_a_backup_is_missed_only_with_what_it_stands_in_for(seed):
    p = families.backup(seed)
    also = {q.name: next(iter(q.also)) for q in [*p.draft.encoder, *p.draft.decoder] if q.also}
    assert also
    for second, first in also.items():
        alone = relative(p, 500, [first], [second])
        assert np.abs(alone - 1).max() < .002
        assert relative(p, 500, [first, second])[0] > 1.1

@pytest.mark.parametrize('seed', range(3))
def test_a_gated_circuit_is_another_one_on_the_other_side(seed):
    p = families.gated(seed)
    sides = [t < p.draft.switch for t in families.TIMES]
    assert len(set(sides)) == 2
    first, last = (set(parts(p, t, True)) for t in (300, 700))
    assert {s for s in first & last if '.attn' not in s} <= {s for s in p.truth if 'skip' in s}
    only_early = [s for s in first - last if '.attn' not in s]
    assert np.abs(relative(p, 700, only_early) - 1).max() < 1e-3

@pytest.mark.parametrize('seed', range(3))
def test_cancelling_parts_act_one_by_one_and_not_together(seed):
    p = families.cancelling(seed)
    false = [s for s in parts(p, 500, False) if s.startswith('dec1.res')]
    one_by_one = np.abs(relative(p, 500, *([s] for s in false)) - 1)
    assert (one_by_one > .01).sum() == 2 and abs(relative(p, 500, false)[0] - 1) < .001

def test_useless_parts_move_the_output_and_do_not_help():
    p = families.useless(1)
    effect = relative(p, 500, *([s] for s in parts(p, 500, False)))
    assert effect.min() < .99 and effect.max() < 1.001

@pytest.mark.parametrize('seed', range(3))
def test_composed_heads_need_each_other(seed):
    "Swapping what the second head reads for another image's changes the output as swapping the first."
    p = families.composed(seed)
    exam = make_exam(p.draw(12, 0), (500,))
    x, tt = exam.at(500)
    first, second = sorted((s for s in parts(p, 500, True) if '.h' in s), reverse=True)
    def swapped(name):
        with capturing(p.denoiser.net, [name]) as seen: p.denoiser(x.roll(1, 0), tt)
        with editing(p.denoiser.net, {name: patch(seen[name])}): return p.denoiser(x, tt)
    assert torch.allclose(swapped(first), swapped(second), atol=1e-3)
    assert not torch.allclose(swapped(first), p.denoiser(x, tt), atol=.05)

@pytest.mark.parametrize('t', families.TIMES)
def test_no_linear_denoiser_beats_a_graded_one(t):
    "Least squares on the pixels that the circuit reads comes close to the error of the drawing."
    p = families.graded(0)
    x0 = p.draw(400, 3)
    exam = make_exam(x0, (t,))
    x = exam.at(t)[0]
    X = torch.stack([x.roll((-a, -b), (-2, -1)) for a, b in p.draft.steps], -1).reshape(-1, 4)
    y = exam.ε.reshape(-1, 1)
    best = float((y - X @ torch.linalg.lstsq(X, y).solution).square().mean())
    with editing(p.denoiser.net, dict.fromkeys(parts(p, t, False), mean)): ε̂ = p.denoiser(*exam.at(t))
    ours = float(image_errors(ε̂, exam.ε).mean())
    assert best*.99 < ours < best*1.06

def test_grades_are_what_is_lost_when_weights_are_chosen_anew():
    p = families.graded(0)
    routes = [v for s, v in p.at(500).items() if s.startswith('dec1.res') and v]
    assert len({round(v, 6) for v in routes}) == 3 and max(p.at(500).values()) == 1

@pytest.mark.parametrize('seed', range(4))
def test_decoys_are_as_loud_and_explain_as_much(seed):
    p = families.matched(seed)
    loud = {n: v for n, v in benchmark.CANDIDATES['norm (baseline)'](
        p.denoiser, benchmark.exam_for(p, 500)).items()}
    true = np.array([loud[s] for s in parts(p, 500, True)])
    for s in parts(p, 500, False): assert np.abs(true/loud[s] - 1).min() < .02, s
    share, known = families.explained(p, 500), sites(p.denoiser.net)
    for kind in ('block', 'head', 'skip'):
        same = [v for s, v in share.items() if known[s].kind == kind and not s.endswith('.attn')]
        assert np.ptp(same) < .03, kind

@pytest.mark.parametrize('seed', range(2))
def test_only_the_able_head_can_bring_the_other_half(seed):
    p = able.alone_able(seed, 150)
    h = [s for s, v in p.truth.items() if v[0]]
    assert len(h) == 1
    assert able.crossing(p, h) < 1e-6 and able.crossing(p) > .1
    assert able.crossing(p, [s for s in p.truth if s not in h]) > .1
    # and training has used it: the error is one that needs the partner
    assert p.checks['best']*.9 < p.checks['mse'] < .9*ᾱ[500]

def test_networks_vary():
    ps = [families.matched(s) for s in range(6)]
    assert len({p.draft.size for p in ps}) > 1 and len({p.draft.kind for p in ps}) == 2
    assert len({tuple(sorted(parts(p, 500, True))) for p in ps}) > 3
    assert len({len(p.truth) for p in ps}) > 1

# ------------------------------------------------------------------ instruments

NETWORKS = [families.BY_HAND[f](s) for f in ('matched', 'composed', 'skip edges') for s in range(4)]
sound = candidates.CANDIDATES['mean-ablation']

def shuffled(denoiser, exam):
    scores = sound(denoiser, exam)
    order = np.random.default_rng(len(scores)).permutation(list(scores))
    return dict(zip(order, scores.values()))

def constant(denoiser, exam): return dict.fromkeys(sites(denoiser.net), 1.)

def found(f): return benchmark.judge(f, NETWORKS, 8).set_index('family').auc['all']

def test_a_sound_instrument_passes(): assert found(sound) == 1.

@pytest.mark.parametrize('broken', [shuffled, constant, candidates.CANDIDATES['random (baseline)']])
def test_a_broken_instrument_is_caught(broken): assert found(broken) < GOOD - .1

def test_a_reversed_instrument_is_read_the_other_way_round():
    "Directions are learned: what is sound backwards is sound, what turns at random is not."
    def backwards(denoiser, exam): return {s: -v for s, v in sound(denoiser, exam).items()}
    def at_odds(denoiser, exam):  # backwards in the networks that are judged
        sign = -1 if denoiser in {p.denoiser for p in NETWORKS if p.half == 'judged'} else 1
        return {s: sign*v for s, v in sound(denoiser, exam).items()}
    assert found(backwards) == 1. and found(at_odds) < .1

def test_what_is_left_out_is_said():
    def few(denoiser, exam): return dict(list(sound(denoiser, exam).items())[:6])
    assert benchmark.judge(few, NETWORKS, 8).covered.max() < .5

def test_the_norm_does_not_find_what_is_matched():
    ps = [families.BY_HAND[f](s) for f in families.BY_HAND for s in range(4)]
    rows = benchmark.judge(candidates.CANDIDATES['norm (baseline)'], ps, 8).set_index('family')
    assert rows.auc['all'] < .6

values = st.lists(st.tuples(st.integers(-8, 8), st.sampled_from([0., .3, 1.])), min_size=2, max_size=9)

@settings(max_examples=60, deadline=None)
@given(values)
def test_concordance_is_turned_by_the_sign_and_kept_by_order(pairs):
    s, v = (np.array(x) for x in zip(*pairs))
    c = benchmark.concordance(s, v)
    if np.isnan(c): return
    assert 0 <= c <= 1 and np.isclose(benchmark.concordance(-s, v), 1 - c)
    assert np.isclose(benchmark.concordance(np.exp(s/2), v), c)

@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(2, 6), st.integers(0, 99))
def test_kendalls_w_lies_between_nothing_and_one_order(n, m, seed):
    x = np.random.default_rng(seed).normal(size=(n, m))
    w = benchmark.kendall_w(x)
    assert -1e-9 <= w <= 1 + 1e-9
    assert np.isclose(benchmark.kendall_w(np.repeat(x[:, :1], m, 1)), 1)

# ------------------------------------------------------------------ the data

def test_the_committed_networks_are_those_that_are_drawn():
    folder = ROOT/'benchmarks'/'planted'
    ps = {p.name: p for p in benchmark.read_benchmark(folder)}
    assert len(ps) >= 60 and {p.family for p in ps.values()} == set(families.FAMILIES)
    for name in ('matched-0', 'gated-3', 'graded-1', 'skip edges-4'):
        drawn = families.BY_HAND[ps[name].family](ps[name].seed)
        exam = benchmark.exam_for(drawn, 500, 4)
        assert drawn.truth.keys() == ps[name].truth.keys()
        for part, effects in drawn.truth.items():  # processors round differently
            assert np.allclose(effects, ps[name].truth[part], rtol=1e-6, atol=1e-9), part
        assert torch.allclose(drawn.denoiser(*exam.at(500)), ps[name].denoiser(*exam.at(500)),
                              atol=1e-3)

def test_the_card_counts_what_is_there():
    folder = ROOT/'benchmarks'/'planted'
    said, card = json.loads((folder/'truth.json').read_text()), (folder/'README.md').read_text()
    assert f'{len(said)} networks' in card and all(f in card for f in families.FAMILIES)
    assert all(max(v) > 0 for s in said.values() for v in [sum(s['truth'].values(), [])])
