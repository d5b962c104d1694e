"""Which devices belong to the host's management controller (BMC): virtual media, keyboards, network adapters. Pure.

A guest that got one could boot the host from an image of its own, type at the host's console or reach the BMC. Ids are
listed only where a public source has them:

* usb.ids 2025.07.26 (http://www.linux-usb.org/usb-ids.html), marked [ids];
* kernel logs and lists of devices on lore.kernel.org, marked [lore];
* device lists of Canonical's certified servers (https://github.com/canonical/checkbox), marked [checkbox];
* lists of linux-hardware.org (https://github.com/linuxhw), marked [lhw];
* bug reports of TrueNAS (https://github.com/truenas/middleware, 12133 and 14875), marked [truenas];
* IBM's script that configures the network to the IMM, marked [imm];
* the gadgets that remote consoles on the network make: https://docs.pikvm.org/id, https://github.com/jetkvm/kvm and
  https://github.com/sipeed/NanoKVM, marked [kvm].
"""

import re
from collections.abc import Mapping

from usb_provider.model.devices.device import UsbDevice

_IDS: Mapping[str, tuple[str, ...]] = {
    "03f0": ("1027", "1227", "1327", "7029"),  # HP iLO: keyboard, CD-ROM, hub [ids] [lore]
    "0430": ("a101", "a102", "a103", "a111", "a112", "a113", "a4a2", "cdab"),  # Sun ILOM and its KVM [ids]
    "046b": ("ff",),  # AMI MegaRAC: hub, keyboard, CD-ROM, disk, floppy, network [ids] [checkbox] [truenas]
    "04b3": ("4010",),  # IBM IMM and Lenovo XClarity: network [imm]
    "0557": ("2221", "2419", "9241"),  # ATEN and Winbond in Supermicro's: keyboard and mouse [ids] [lore]
    "05a6": ("0a0",),  # Cisco CIMC: keyboard, disk, network [ids]
    "0624": ("0200", "024", "025", "0402", "0403"),  # Avocent in iDRAC and CIMC [ids] [checkbox]
    "0b1f": ("03ee",),  # Insyde in Supermicro's: network [lore]
    "0ea0": ("1111",),  # Supermicro: virtual CD-ROM [lhw]
    "12d1": ("0001", "0002", "0003"),  # Huawei iBMC: keyboard, mouse, DVD-ROM [lore]
    "14dd": ("10",),  # Raritan's adapters of KVM switches: keyboard, media, card of the user [ids]
    "17ef": ("b00",),  # Lenovo XClarity: keyboard, disk [ids]
    "1d6b": ("0107",),  # virtual hub of Aspeed's controllers [lore]
    "3346": ("1009",),  # NanoKVM [kvm]
    "413c": ("0000", "0001", "2500", "a102"),  # Dell DRAC and iDRAC: keyboard, disk, network [ids] [lore]
}
"""By vendor, how the product ids of its management controllers begin."""

_SIGNS = ("OpenBMC", "aspeed_vhub", "ast_vhub", "iDRAC", "XClarity", "MegaRAC", "PiKVM", "JetKVM", "NanoKVM", "BliKVM")
_VIRTUAL = re.compile(
    r"virtual[ _-](keyboard|mouse|cd([ _-]?rom)?|dvd|floppy|h(ard)?[ _-]?disk|media|mass|ethernet|network|nic)"
    r"(?![a-z])",
    re.IGNORECASE,
)
"""What the texts of devices that such a controller makes contain; Linux on it names its USB hardware there [lore].

Remote consoles give their name [kvm]. Makers that no list has call their devices "Virtual Media" or "Virtual Keyboard"
as the others do [ids].

A device can put any text there; all that it gets by this is that it is not offered.
"""


def is_management(device: UsbDevice) -> bool:
    """Whether *device* belongs to the management controller of the host, by its ids or by what its texts say."""
    if any(device.product_id.startswith(product) for product in _IDS.get(device.vendor_id, ())):
        return True
    texts = f"{device.manufacturer or ''} {device.product or ''}"
    if device.manufacturer == "BMC" or any(sign in texts for sign in _SIGNS):
        return True
    return _VIRTUAL.search(device.product or "") is not None
