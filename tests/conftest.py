"""In CI hypothesis draws the same examples every time, so that a change is judged by what it
changes; elsewhere it goes on looking for new ones. What needs a browser is left out where there is
none, but in CI that is an error."""
import os, shutil
from hypothesis import settings
settings.register_profile('ci', derandomize=True, deadline=None, print_blob=True)
if os.environ.get('CI'): settings.load_profile('ci')

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), '')
if os.environ.get('CI') and not CHROMIUM:
    raise RuntimeError('There is no Chromium, without which CI would leave out all checks in a '
                       'browser; install the package chromium.')
