"""What the hook does to a domain by itself: placeholders, the mark of a restore, and what it leaves as it is."""

import ast
import inspect
import xml.etree.ElementTree as ET
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.fixtures.domain_xml import a_domain_xml, a_hostdev_xml, an_alias
from usb_provider.model.binding.hostdev import Hostdev, parse_guest
from usb_provider.model.binding.hostdev import alias as alias_of
from usb_provider.virt import hook

ASKS = {"resources:CUSTOM_USB_KEY": "1"}
OTHERS = [
    "<disk type='file'/>",
    f"<hostdev type='pci'><alias name='{an_alias(7)}'/></hostdev>",
    a_hostdev_xml("hostdev0"),
    a_hostdev_xml("ua-usb-stick"),
    a_hostdev_xml("ua-usb-../../allocations"),
]

domains = st.builds(
    lambda ours, others, asks: a_domain_xml(
        extra_specs=ASKS if asks else {},
        devices=[*(a_hostdev_xml(an_alias(number), device=number) for number in ours), *others],
    ),
    st.lists(st.integers(1, 99), unique=True, max_size=4),
    st.lists(st.sampled_from(OTHERS)),
    st.booleans(),
)


@given(domains, st.booleans())
def test_whatever_a_guest_brings_our_hostdevs_need_no_device_and_all_else_is_as_it_was(
    text: str, is_restore: bool
) -> None:
    before = parse_guest(text)
    rewritten = hook.with_placeholders(text, is_restore)
    assert (rewritten is None) == (not before.ours and not (is_restore and before.asks_for))
    after = parse_guest(text if rewritten is None else rewritten)
    assert [each.alias for each in after.hostdevs] == [each.alias for each in before.hostdevs]
    assert [each for each in after.hostdevs if not each.provider_uuid] == [
        each for each in before.hostdevs if not each.provider_uuid
    ]
    assert all((each.bus, each.vendor_id, each.product_id) == (255, None, None) for each in after.ours)
    assert len({each.device for each in after.ours}) == len(after.ours)
    assert (after.uuid, after.name, after.controllers, after.asks_for) == (
        before.uuid,
        before.name,
        before.controllers,
        before.asks_for,
    )


@given(domains)
def test_what_a_restore_has_changed_is_known_by_it_and_changed_no_further(text: str) -> None:
    assert not hook.comes_from_save_file(text)
    rewritten = hook.with_placeholders(text, is_restore=True)
    if rewritten is not None:
        assert hook.comes_from_save_file(rewritten)
        assert ET.canonicalize(hook.with_placeholders(rewritten, is_restore=True)) == ET.canonicalize(rewritten)


def test_a_domain_without_metadata_is_marked_too() -> None:
    text = f"<domain><name>vm</name><uuid>1</uuid><devices>{a_hostdev_xml(an_alias())}</devices></domain>"
    rewritten = hook.with_placeholders(text, is_restore=True)
    assert rewritten is not None
    assert ET.fromstring(rewritten).find(f"metadata/{hook.RESTORED}") is not None


@pytest.mark.parametrize("name", ["{urn:usb-provider:restored}restored", "xmlns:a='urn:usb-provider:restored'"])
def test_no_name_that_a_user_gives_a_server_looks_like_a_save_file(name: str) -> None:
    assert not hook.comes_from_save_file(a_domain_xml(name, extra_specs=ASKS))


def test_the_hook_and_the_agent_know_our_hostdevs_by_the_same_alias() -> None:
    for alias in (
        alias_of(str(UUID(int=7))),
        "ua-usb-stick",
        "ua-usb-",
        f"{an_alias()}x",
        an_alias().upper(),
        an_alias(),
    ):
        assert bool(hook.OUR_ALIAS.match(alias)) == (Hostdev(alias, None, None, 1, 3).provider_uuid is not None), alias


def test_the_hook_is_written_in_the_python_of_every_host_that_libvirt_runs_on() -> None:
    tree = ast.parse(inspect.getsource(hook), feature_version=(3, 6))
    for node in ast.walk(tree):  # list[str] in an annotation is evaluated, and fails before 3.9
        if isinstance(node, ast.FunctionDef):
            words = [each.annotation for each in node.args.args] + [node.returns]
            assert not [each for each in words if isinstance(each, ast.Subscript | ast.BinOp)], node.name
