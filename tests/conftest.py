"""How hard hypothesis tries: little by default; ``--hypothesis-profile=thorough`` for a night's worth."""

from hypothesis import settings

settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile("thorough", max_examples=5000, deadline=None)
settings.load_profile("quick")
