"""Failure cases of the feature instruments that need networks of their own."""
import numpy as np, pandas as pd, pytest, torch
from diffcirc.attention import reference_maps
from diffcirc.diffusion import make_exam, untrained
from diffcirc.features import auc, complexity, feature_stats, interaction, onsets, best_layers, probes, selectivity
from diffcirc.unet import UNetConfig

CFG = UNetConfig(16, 1, 8, (1, 2), width=16, temb=8)

@pytest.fixture(scope='module')
def den(): return untrained(CFG)

def images(n, seed=0): return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))*2 - 1

def test_one_image(den):
    exam = make_exam(images(1), (300,)); stat = feature_stats(den, exam)
    assert np.isfinite(stat.drop(columns=['layer', 'of'])).all(axis=None) and len(stat) == 2*len(stat.layer.unique())
    sel = selectivity(den, exam, reference_maps(images(1)))
    assert sel.r.between(0, 1.0001).all() and sel.other.isna().all()
    with pytest.raises(ValueError, match='too few'): interaction(den, exam)

def test_constant_activations():
    d = untrained(CFG)
    for p in d.parameters(): p.zero_()
    exam = make_exam(images(4), (300,)); stat = feature_stats(d, exam)
    assert (complexity(stat) == 0).all() and complexity(stat, scale_free=True).isna().all()
    sel = selectivity(d, exam, reference_maps(images(4)))
    assert (sel.r == 0).all() and (sel.p == 1).all()

def test_nan_names_the_layer():
    d = untrained(CFG); d.net.get_submodule('mid.attn').proj_out.bias[0] = torch.nan
    with pytest.raises(ValueError, match='of mid.attn hold NaN'): feature_stats(d, make_exam(images(2), (300,)))

def test_batches_do_not_matter(den):
    exam, refs = make_exam(images(7), (300,)), reference_maps(images(7))
    a, b = selectivity(den, exam, refs, batch=3), selectivity(den, exam, refs, batch=7)
    np.testing.assert_allclose(a[['r', 'other']], b[['r', 'other']], atol=1e-5)
    a, b = interaction(den, exam, batch=3), interaction(den, exam, batch=7)
    np.testing.assert_allclose(a.cka, b.cka, rtol=1e-4)

def test_probe_finds_what_is_there_and_nothing_else(den):
    "Labels that are in the image are read; shuffled labels are not."
    g = torch.Generator().manual_seed(3); fit, test = images(120, 1), images(60, 2)
    y = [(x[:, 0, :8].mean((1, 2)) > x[:, 0, 8:].mean((1, 2))).float() for x in (fit, test)]
    lab = [np.stack([v, torch.randint(0, 2, v.shape, generator=g).float()], 1) for v in y]
    side = [dict(refs=reference_maps(x), labels=l) for x, l in zip((fit, test), lab)]
    out = probes(den, make_exam(test, (20,)), dict(images=fit, **side[0]), side[1], ['brighter above', 'shuffled'])
    best = out[out.layer != 'noisy image'].groupby('target').score.max()
    assert best['brighter above'] > .8 and out[out.target == 'shuffled'].score.between(.25, .75).all()
    assert best['intensity'] > .5

def test_no_attribute_known(den):
    "Faces without attributes: maps and controls alone."
    side = [dict(refs=reference_maps(images(n, n)), labels=np.zeros((n, 0), 'float32')) for n in (12, 9)]
    out = probes(den, make_exam(images(9, 9), (100, 300)), dict(images=images(12, 12), **side[0]), side[1], [])
    assert set(out.kind) == {'map'}
    assert set(onsets(best_layers(out.assign(dataset='natural', seed=0))).type) <= {'edges', 'texture', 'intensity'}
    assert np.isnan(auc([1., 2], [0, 0]))
