"""Which verdicts changed between two builds, and why, as a Markdown table:
python benchmarks/changed_verdicts.py OLD/claims.json NEW/claims.json

Words of builds before the verdicts had five words are read as the nearest new one: reproduced as
holds, not reproduced as contradicted, not testable as inconclusive; for the audit as consistent,
inconsistent and not checkable, and for the set-up as set-up."""
import json, sys
from collections import Counter
from pathlib import Path

OLD = ('reproduced', 'not reproduced', 'not testable')
NOW = {'measured': ('holds', 'contradicted', 'inconclusive'),
       'arithmetic': ('consistent', 'inconsistent', 'not checkable'), 'design': ('set-up',)*3}

def read_as(word, kind):
    "A verdict in the new words."
    return NOW[kind][OLD.index(word)] if word in OLD else word

def changed(old, new):
    "Claims of `new` whose verdict is another than in `old`: [(claim, old word)]."
    before = {c['id']: c['verdict'] for c in old}
    return [(c, before[c['id']]) for c in new
            if c['id'] in before and read_as(before[c['id']], c['kind']) != c['verdict']]

if __name__ == '__main__':
    old, new = (json.loads(Path(p).read_text()) for p in sys.argv[1:3])
    rows = changed(old, new)
    print('| claim | before | now | why |\n|:--|:--|:--|:--|')
    for c, word in rows: print(f"| `{c['id']}` | {word} | {c['verdict']} | {c['reason']} |")
    turns = Counter((word, c['verdict']) for c, word in rows)
    print(f'\n{len(rows)} of {len(new)} changed: '
          + '; '.join(f'{n} from {a} to {b}' for (a, b), n in turns.most_common()) + '.')
