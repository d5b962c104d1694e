"""Why a start is refused: what the operator reads, and what Nova shows to the owner of the server."""

from tests.fixtures.builders import KEY, ROOT, a_consumer, a_device, a_spec, a_tree, an_observed
from tests.fixtures.domain_xml import a_domain_xml
from usb_provider.model.binding.holding import holdings
from usb_provider.model.binding.hostdev import parse_guest
from usb_provider.model.binding.refusals import start_refusals
from usb_provider.model.devices.device import HostUse, UseKind
from usb_provider.model.reporting.host_state import HostView
from usb_provider.model.reporting.provider import assess


def test_the_use_that_the_host_makes_of_a_device_is_for_the_operator_alone() -> None:
    device = a_device(serial="1", uses=(HostUse(UseKind.MOUNTED, "sdb1 is mounted on /srv/secret"),))
    view = HostView(a_tree(an_observed(held=[KEY])), assess([device], [a_spec()], root=ROOT))
    (why,) = start_refusals(parse_guest(a_domain_xml(uuid=a_consumer())), holdings(view), ())
    assert why.text.endswith("sdb1 is mounted on /srv/secret.")
    assert why.told is not None
    assert why.told.endswith("is allocated to this instance, but this host does not offer it now.")
