"""A little of the campaign: some cases of each part, in every run of the tests."""
import os
import pytest
from . import files, functions, inputs, writes
from .outcomes import Campaign

FEW = dict(tables=25, records=24, json=40, runs=18, old=8, checkpoints=10, faces=20, critics=4,
           made_once=25, texts=24, images=8, parquet=16, commands=12, sizes=8, full_homes=3)

@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    monkeypatch.setenv('IN_TEST', '1')
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    monkeypatch.delenv('DIFFCIRC_CELEBA', raising=False)

@pytest.mark.parametrize('part', [*files.ALL, *inputs.ALL, *writes.ALL])
def test_nothing_silent(part, tmp_path):
    campaign = Campaign()
    {**files.ALL, **inputs.ALL, **writes.ALL}[part](campaign, tmp_path, FEW.get(part, 1))
    assert campaign.rows() and not campaign.faults, campaign.faults[:5]

@pytest.mark.parametrize('module', ['settled', 'tests', 'effects', 'report'])
def test_functions_of_statistics(module, tmp_path, monkeypatch):
    monkeypatch.setenv('DIFFCIRC_HOME', os.environ.get('DIFFCIRC_HOME') or str(tmp_path))
    campaign = Campaign()
    called = functions.functions(campaign, f'diffcirc.statistics.{module}', 6, 8,
                                 functions.known_faults())
    assert called and not campaign.faults, campaign.faults[:5]
