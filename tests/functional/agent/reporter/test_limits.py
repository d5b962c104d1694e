"""What a device that shows other ids or another serial number at each plug can make the agent create is bounded."""

import time

import pytest

from tests.fixtures.placement import usb_view
from tests.fixtures.reporting import ABSENT, KEY_NAME, KEY_RULE, row, topics, uuid_of, yubikey

USB_TRAITS = "/traits?name=startswith:CUSTOM_USB_SERIAL_"


def plug_serials(host, *serials):
    """Plug one device in after the other, each with another serial number, in the same port."""
    for serial in serials:
        host.plug(yubikey(serial))
        done = host.run()
    return done


def test_at_max_providers_no_further_one_is_created_and_a_notice_names_the_option(placement, host, root):
    host.rules(KEY_RULE, max_providers=3)
    assert plug_serials(host, "Y1", "Y2", "Y3").notes == ()
    done = plug_serials(host, "Y4")
    assert len(placement.providers(root)) == 1 + 3
    (note,) = done.notes
    assert note.blocks
    assert "1 devices are not reported, since host1 has 3 providers and [agent]max_providers is 3" in note.text
    assert all(ABSENT in each["traits"] for each in usb_view(placement, root).values())


def test_at_the_limit_a_device_that_has_a_provider_is_reported_as_before(placement, host, root):
    host.rules(KEY_RULE, max_providers=3)
    plug_serials(host, "Y1", "Y2", "Y3", "Y4")
    assert plug_serials(host, "Y1").notes == ()
    assert usb_view(placement, root)[KEY_NAME] == row()


@pytest.mark.parametrize("way", ["raised", "purged"])
def test_the_device_is_reported_when_there_is_room_again(placement, host, root, operator, way):
    host.rules(KEY_RULE, max_providers=2)
    assert topics(plug_serials(host, "Y1", "Y2", "Y3").notes) == ["limit"]
    if way == "raised":
        host.rules(KEY_RULE, max_providers=3)
    else:
        operator.delete(uuid_of("1050:0407:Y1"))
    assert host.run().notes == ()
    assert usb_view(placement, root)["host1_usb_1050:0407:Y3"] == row()


def test_serial_traits_of_a_device_with_another_serial_at_each_plug_do_not_pile_up(placement, host, root):
    host.rules({**KEY_RULE, "identity": "port"}, serial_trait=True)
    plug_serials(host, "Y1", "Y2", "Y3")
    assert placement.api.must("GET", USB_TRAITS)["traits"] == ["CUSTOM_USB_SERIAL_Y3"]
    assert plug_serials(host, "Y1").notes == ()
    assert placement.api.must("GET", USB_TRAITS)["traits"] == ["CUSTOM_USB_SERIAL_Y1"]


def test_the_agent_deletes_no_trait_that_it_has_not_made_since_a_flavor_may_forbid_it(placement, host, root):
    placement.api.must("PUT", "/traits/CUSTOM_USB_SERIAL_Y1")
    host.rules({**KEY_RULE, "identity": "port"}, serial_trait=True)
    plug_serials(host, "Y1", "Y2")
    host.restart()
    plug_serials(host, "Y3")
    assert set(placement.api.must("GET", USB_TRAITS)["traits"]) == {f"CUSTOM_USB_SERIAL_Y{each}" for each in (1, 2, 3)}


def test_a_trait_that_another_host_has_too_stays(placement, host, root, operator):
    host.rules({**KEY_RULE, "identity": "port"}, serial_trait=True)
    plug_serials(host, "Y1")
    other = operator.create("host2", None)
    operator.set_traits(other, {"CUSTOM_USB_SERIAL_Y1"})
    assert plug_serials(host, "Y2").notes == ()
    assert "CUSTOM_USB_SERIAL_Y1" in placement.traits(other)


def test_a_purge_by_the_agent_takes_the_traits_of_the_device_along(placement, host, root):
    host.rules(KEY_RULE, serial_trait=True, purge_absent_after=0)
    plug_serials(host, "Y1", "Y2")
    host.rules(KEY_RULE, serial_trait=True, purge_absent_after=1, purge_wait=0)
    time.sleep(2.1)  # Placement's clock counts in seconds
    for _ in range(2):
        host.run()
    assert set(placement.providers(root)) == {"host1", "host1_usb_1050:0407:Y2"}
    assert placement.api.must("GET", USB_TRAITS)["traits"] == ["CUSTOM_USB_SERIAL_Y2"]


def test_a_trait_that_is_deleted_and_needed_again_costs_no_second_attempt(placement, host, root):
    host.rules({**KEY_RULE, "identity": "port"}, serial_trait=True)
    plug_serials(host, "Y1", "Y2")
    placement.requests.clear()
    plug_serials(host, "Y1")
    assert [each for each in placement.requests if isinstance(each.status, str) or each.status >= 400] == []
    assert placement.api.must("GET", USB_TRAITS)["traits"] == ["CUSTOM_USB_SERIAL_Y1"]


def test_a_trait_that_cannot_be_deleted_holds_nothing_up(placement, host, root):
    host.rules({**KEY_RULE, "identity": "port"}, serial_trait=True)
    plug_serials(host, "Y1")
    placement.fail_next("DELETE /traits/CUSTOM_USB_SERIAL_Y1", 503, None)
    assert plug_serials(host, "Y2").notes == ()
    assert len(placement.api.must("GET", USB_TRAITS)["traits"]) == 2
