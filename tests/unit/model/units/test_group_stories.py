"""Pools, bundles and single devices through any story: no unit is promised twice, and a consumer keeps what it has.

Rules put the ports of one host into pools, into bundles, or into neither, and change; the pure model makes the passes,
whole and interrupted ones. The stories of single devices are in tests/unit/model/reporting/test_stories.py. To tell
more stories::

    USB_PROVIDER_STORIES=20000 pytest tests/unit/model/units/test_group_stories.py
"""

import os

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.group_story import EVENTS, PORTS, THINGS, GroupStory, Step

STORIES = int(os.environ.get("USB_PROVIDER_STORIES", "60"))

numbers = st.integers(0, 11)
steps = st.tuples(st.sampled_from(EVENTS), numbers, numbers)
placed = st.lists(st.sampled_from(sorted(THINGS)), min_size=3, max_size=len(PORTS), unique=True)


@hypothesis.settings(max_examples=STORIES, deadline=None, print_blob=True, report_multiple_bugs=False)
@given(placed, st.lists(steps, max_size=40))
def test_whatever_happens_no_unit_is_promised_twice_and_a_consumer_keeps_what_it_has(
    begin: list[str], story: list[Step]
) -> None:
    host = GroupStory(begin)
    for step in [*story, ("settle", 0, 0)]:
        host.go(*step)
