"""What can come of a damaged input, and who says so."""
import linecache, logging, signal, traceback
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
import diffcirc

RIGHT, CLEAR, OPEN = 'right', 'clear error', 'not judged'
TRACEBACK, SILENT = 'traceback', 'silent wrong'
KINDS = (RIGHT, CLEAR, OPEN, TRACEBACK, SILENT)
PACKAGE = str(Path(diffcirc.__file__).parent)

class TooLong(BaseException): "A call that does not come to an end."

@contextmanager
def within(seconds):
    """TooLong unless the block ends in so many seconds of the process's own time, or twenty times
    as many by the clock: a busy machine is nobody's fault."""
    def stop(*_): raise TooLong
    timers = ((signal.SIGPROF, signal.ITIMER_PROF, seconds),
              (signal.SIGALRM, signal.ITIMER_REAL, 20*seconds))
    old = [signal.signal(sign, stop) for sign, _, _ in timers]
    for _, timer, s in timers: signal.setitimer(timer, s)
    try: yield
    finally:
        for (sign, timer, _), was in zip(timers, old):
            signal.setitimer(timer, 0)
            signal.signal(sign, was)

def is_clear(e: BaseException) -> bool:
    """Whether an error is raised by a statement of this package (and not stumbled into), as a
    sentence."""
    frame = traceback.extract_tb(e.__traceback__)[-1]
    raised = 'raise' in linecache.getline(frame.filename, frame.lineno)
    return frame.filename.startswith(PACKAGE) and raised and len(str(e).split()) > 4

class Campaign:
    "Counts outcomes by part, and keeps what went wrong."
    def __init__(self): self.counts, self.faults, self.known = {}, [], False

    def note(self, part, outcome, about=''):
        "Count one case; it is a fault where it went wrong and is not `known` to."
        self.counts.setdefault(part, Counter())[outcome] += 1
        if outcome in (TRACEBACK, SILENT) and not self.known: self.faults.append((part, outcome, str(about)[:500]))

    def add(self, other):
        "Take over what another campaign has counted."
        for part, n in other.counts.items(): self.counts.setdefault(part, Counter()).update(n)
        self.faults += other.faults

    def tried(self, part, run, judge, about='', seconds=20):
        "Run a case and judge what it returns (`judge`: result → an outcome); errors judge themselves."
        try:
            with within(seconds): out = judge(run())
        except TooLong: out, about = TRACEBACK, f'{about}: no end in {seconds} s'
        except Exception as e:
            out = CLEAR if is_clear(e) else TRACEBACK
            if out == TRACEBACK: about = f'{about}: {type(e).__name__}: {e}'
        self.note(part, out, about)
        return out

    def rows(self) -> list[dict]:
        "One row per part: how many were tried, and what came of them."
        return [dict(part=part, tried=sum(n.values()), **{k: n[k] for k in KINDS})
                for part, n in self.counts.items()]

@contextmanager
def quiet():
    "Without the package's warnings: there is one per damaged file."
    log = logging.getLogger('diffcirc')
    old, log.disabled = log.disabled, True
    try: yield
    finally: log.disabled = old
