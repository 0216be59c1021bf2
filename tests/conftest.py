"""In CI hypothesis draws the same examples every time, so that a change is judged by what it
changes; elsewhere it goes on looking for new ones."""
import os
from hypothesis import settings
settings.register_profile('ci', derandomize=True, deadline=None, print_blob=True)
if os.environ.get('CI'): settings.load_profile('ci')
