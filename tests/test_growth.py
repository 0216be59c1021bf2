"What the chapter on growth trains and asks, and what it reads from verdicts along an axis."
import base64, json
from dataclasses import asdict, replace
from pathlib import Path
import pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from diffcirc.book.growth import change_points
from diffcirc.book.asking import Protocol, asked
from diffcirc.book.reference import differing, kept_build, too_much, write_reference
from diffcirc.core import preset
from diffcirc.denoiser.readers import prediction_errors
from diffcirc.denoiser.training import Run, TrainConfig
from diffcirc.faces.data import ATTRIBUTES, FaceSet
from diffcirc.study.models import DATASETS, GROWN, KEEP, Study, trainings

def faces(n):
    attrs = pd.DataFrame(0., range(n), list(ATTRIBUTES))
    return FaceSet('made', torch.zeros(n, 1, 8, 8), attrs, range(n))

def study(longer=4, seeds=GROWN + 1):
    "A study of made-up faces, whose runs are their configurations."
    p = replace(preset('smoke'), seeds=seeds, longer=longer, growth=(8, 16, 1000))
    samples = {(d, s): faces(20) for d in DATASETS for s in range(seeds)}
    halves = {(d, half): faces(16) for d in DATASETS for half in (0, 1)}
    out = Study(p, {d: faces(4) for d in DATASETS}, samples, halves)
    for (kind, key), (_, cfg) in trainings(out).items():
        getattr(out, kind)[key] = Run(Path('nowhere'), dict(config=asdict(cfg), weights=str(key)))
    return out

def test_the_longest_trainings_come_first_and_sizes_out_of_reach_are_left_out():
    S = study()
    todo = trainings(S)
    steps = [cfg.steps for _, cfg in todo.values()]
    assert steps == sorted(steps, reverse=True) and steps[0] == 4*S.preset.steps
    assert {n for _, n, _ in S.grown} == {8, 16}
    for (kind, key), (f, cfg) in todo.items():
        if kind == 'grown': assert (len(f), cfg.seed) == key[1:]

def test_a_run_is_asked_before_on_the_way_at_its_end_and_beyond():
    S = study()
    got = {k: [a.columns['images'] for a in asked(Protocol(prediction_errors, of='stages'), S)
               if (a.dataset, a.seed) == k] for k in S.runs}
    end = S.preset.steps*S.preset.batch
    for (_, seed), images in got.items():
        if seed >= GROWN: assert images == []
        else:
            assert images == sorted(images) and images[0] == 0 and end in images
            assert len(images) == len(KEEP) + 2 + (seed == 0)
            assert (images[-1] == 4*end) == (seed == 0)

def test_a_run_in_use_keeps_its_key_when_it_keeps_no_stages():
    "Only the seeds that are watched have another configuration than the preset's."
    own = {key[1]: cfg for (kind, key), (_, cfg) in trainings(study()).items() if kind == 'runs'}
    assert own[GROWN] == TrainConfig.from_preset(study().preset, 1, GROWN)
    assert own[0].keep == KEEP

@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from('abc'), min_size=4, max_size=4), min_size=1, max_size=6))
def test_a_verdict_stays_from_where_it_is_said_to(words):
    V = pd.DataFrame(words, columns=[1, 2, 4, 8])
    found = change_points(V).set_index('claim')
    for claim, row in V.iterrows():
        if claim not in found.index: assert row.nunique() == 1
        else:
            settled = found.settled[claim]
            before = row[row.index < settled]
            assert (row[row.index >= settled] == row[8]).all() and before.iloc[-1] != row[8]

def test_a_kept_build_is_read_whole_or_not_at_all(tmp_path):
    (tmp_path/'claims.json').write_text('[{"id": "a", "verdict": "reproduced", "ours": "1"}]')
    assert kept_build(tmp_path) is None
    (tmp_path/'about.json').write_text('{"preset": "reference"}')
    known, claims = kept_build(tmp_path)
    L = pd.DataFrame([dict(id=i, statement='', paper='', ours='2', verdict=v, kind='measured')
                      for i, v in (('a', 'not reproduced'), ('b', 'reproduced'))])
    assert known['preset'] == 'reference' and list(differing(L, claims).id) == ['a']

@settings(deadline=None)
@given(st.binary(min_size=600, max_size=4000))
def test_nothing_encoded_is_kept(content):
    for text in (base64.b64encode(content).decode(), content.hex(), json.dumps(list(content))):
        assert too_much('about.json', json.dumps(dict(a=text)))

def test_pixels_and_weights_are_not_kept(tmp_path):
    faces = torch.rand(4, 3, 8, 8)
    table = pd.DataFrame(faces.flatten(1).numpy()).to_csv(index=False)
    for name, text in (('skill.csv', table), ('weights.json', '{}'), ('face.png', 'PNG')):
        with pytest.raises(ValueError, match='Not kept'):
            write_reference({'about.json': '{}', name: text}, tmp_path)
    assert not list(tmp_path.iterdir())

def test_what_lies_in_the_repository_may_lie_there():
    for file in (Path(__file__).parent.parent/'benchmarks'/'reference').glob('*'):
        assert not too_much(file.name, file.read_text()), file
