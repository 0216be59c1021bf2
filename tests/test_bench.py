"""`benchmarks/bench.py` at toy size: all arms of every work agree before anything is timed; peers that
are not installed are left out. And two traps of peers."""
import importlib.util, sys
from pathlib import Path
import pandas as pd, pytest, torch
from torch import nn

FOLDER = Path(__file__).parent.parent/'benchmarks'

@pytest.fixture(scope='module')
def bench():
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location('bench', FOLDER/'bench.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['bench'] = module
    threads = torch.get_num_threads()
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)
    sys.path.remove(str(FOLDER))

@pytest.mark.parametrize('name', ['sweep', 'foreign', 'attention', 'training', 'loading'])
def test_arms_agree(bench, name):
    for work in bench.WORKS[name](True):
        notes = work.check()  # raises where an arm gives other numbers
        assert set(notes) <= set(work.arms) and work.ours in work.arms
        assert len(work.arms) > 1

def test_arms_that_differ_are_found(bench):
    want = dict(a=torch.tensor([1., 2.]))
    bench.agree(want, want, 1e-6, 'same')
    with pytest.raises(AssertionError, match='other differs'):
        bench.agree(dict(a=torch.tensor([1., 2.1])), want, 1e-3, 'other')

def test_rows(bench):
    x = torch.zeros(2**18)
    arms = {bench.OURS: bench.Arm(x.clone), 'slow': bench.Arm(lambda: (x + 1) @ x)}
    rows = pd.DataFrame(bench.measured(bench.Work('clone', arms, bench.OURS, rounds=2), True))
    assert rows.busy.eq('yes').all() and rows.ratio_to_ours[0] == 1
    assert rows.peak_mib.tolist() == pytest.approx([1, 1], abs=.1)  # a mebibyte each
    assert rows.gflop.isna()[0] and (rows.min_s <= rows.median_s).all()

def test_the_order_turns(bench):
    seen = []
    arms = {n: bench.Arm(lambda n=n: seen.append(n)) for n in 'abc'}
    bench.in_turn(arms, 3)
    assert ''.join(seen) == 'abcbcacab'

def test_committed_tables_have_these_columns(bench):
    committed = pd.read_csv(FOLDER/'results.csv')
    arms = {bench.OURS: bench.Arm(lambda: None)}
    assert list(committed) == list(bench.measured(bench.Work('w', arms, bench.OURS), False)[0])

# ------------------------------------------------------------------ traps

class Skipping(nn.Module):
    "h = 2x is both carried on and saved: out = 10·h + skip(h)."
    def __init__(self):
        super().__init__()
        self.skip, self.config = nn.Identity(), None
    def forward(self, x):
        h = 2*x
        saved = self.skip(h)
        return 10*h + saved

def test_pyvene_edits_in_place():
    "Cutting the skip edge should leave 10·h; pyvene cuts h as well."
    pyvene = pytest.importorskip('pyvene')
    model, x = Skipping(), torch.ones(1, 3)
    cut = pyvene.IntervenableModel({'component': 'skip.output', 'intervention': lambda b, s: 0*b},
                                   model=model)
    assert model(x).tolist() == [[22.]*3]
    _, out = cut(base=dict(x=x))
    assert out.tolist() == [[0.]*3]  # 20 where only the edge is cut

class Two(nn.Module):
    def forward(self, x): return x, 10*x

class Summing(nn.Module):
    def __init__(self):
        super().__init__()
        self.two = Two()
    def forward(self, x): return sum(self.two(x)).sum(1)

def test_captum_ablates_every_member_of_a_tuple():
    "With the first member's mask alone there is no saying that the second stays."
    attr = pytest.importorskip('captum.attr')
    model, x = Summing(), torch.ones(1, 3)
    ablation = attr.LayerFeatureAblation(model, model.two)
    masks = torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3, dtype=torch.long)
    first, second = ablation.attribute(x, layer_mask=masks)
    assert first.unique().tolist() == [33.]  # 3 where only the first is ablated
