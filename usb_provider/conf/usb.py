"""Options of the group [usb]: which devices are offered, and as what."""

from oslo_config import cfg

from usb_provider.model.devices.keys import JUNK_SERIALS

group = cfg.OptGroup("usb", title="Which USB devices are offered to instances, and as what")

opts = [
    cfg.MultiStrOpt(
        "device_spec",
        default=[],
        mutable=True,
        help="""
A rule that offers USB devices to instances, or leaves them out. Repeat the option for further rules; the first one
that matches a device decides. Without any rule the agent offers nothing.

Never offered, whatever the rules say: hubs, a disk that is mounted, is swap space or is part of a volume group or
array, a network adapter that carries the default route or belongs to a bridge, and the console's keyboard.

Possible values:

* A JSON object on one line. Keys that match, all of which must fit:

  * ``vendor_id``, ``product_id``: four hex digits, as ``lsusb`` prints them.
  * ``serial``: the serial number, exactly.
  * ``port``: ports from the root hub down, such as ``2.4``; a glob, ``2.*``.
  * ``class``: the class of the device or of one of its interfaces, by name or number: ``hid``, ``mass-storage``,
    ``0b``.
  * ``product``, ``manufacturer``: texts that the device gives; a glob, ``*Key*``.
  * ``speed``: ``low``, ``full``, ``high``, ``super`` or ``super-plus``.
  * ``controller``: the host controller, as ``usb-provider devices --json`` shows it: its place, such as
    ``0000:00:14.0`` or ``0000:00:1c.4/00.0``, which stays the same when a card is added; or its PCI address.

  Keys that say what a matching device becomes:

  * ``resource_class``: the class that a flavor asks for, ``CUSTOM_…``; by default one that suits the kind of device,
    such as ``CUSTOM_USB_KEY``.
  * ``traits``: a list of further traits.
  * ``pool``: the name of a pool: all devices of the host that rules put into it are units of one resource provider, and
    a flavor may ask for several. It needs ``resource_class``.
  * ``drain``: ``true`` for a member of a pool that no further server gets. It needs ``pool``.
  * ``bundle``: the name of a bundle: all of its devices together are one unit, which a server gets as a whole. It needs
    ``resource_class``.
  * ``at_least``: how many devices of the rule make the bundle complete, 1 by default. It needs ``bundle``.
  * ``identity``: ``auto`` (the default: by serial number where that tells devices apart, else by port), ``serial``
    or ``port``.
  * ``also``: a list of further ids that the same device has in other modes, such as ``["18d1:9302"]``: before and
    after its firmware is loaded, for example. It is one device with one provider in all of them, and is told apart by
    its port unless ``identity`` is ``serial``. It needs ``vendor_id`` and ``product_id``.
  * ``live_migratable``: ``false`` where no other device can stand in for this one, such as a licence dongle with
    a personal licence or a disk with data: the agent refuses live migrations of a guest that has it.
  * ``guest_reset``: ``off``, ``uninitialized`` or ``on``, what libvirt does when the guest resets the device. libvirt
    before 8.6 ignores it.
  * ``override``: guesses of the agent that are wrong for this model: ``["keyboard"]`` for a barcode scanner that types,
    ``["dial-up"]`` for a serial adapter that does not carry the PPP session of the host. It needs ``vendor_id`` and
    ``product_id``.
  * ``exclude``: ``true`` leaves the device out.

  A ``$`` must be written ``$$``.

For example::

  device_spec = {"vendor_id": "1050", "product_id": "0407", "resource_class": "CUSTOM_USB_KEY"}
  device_spec = {"class": "mass-storage", "port": "4.*", "traits": ["CUSTOM_SITE_A"]}
  device_spec = {"vendor_id": "0529", "resource_class": "CUSTOM_USB_KEY", "pool": "hasp"}
""",
    ),
    cfg.ListOpt(
        "junk_serials",
        default=sorted(JUNK_SERIALS),
        mutable=True,
        help="""
Serial numbers that are placeholders of the maker, so that many devices have the same. The agent tells a device with
such a number from others by its port. Zeros alone, one character four times or more, and the numbers that the chips of
card readers have in common always count as placeholders.

Possible values:

* A list separated by commas; case does not matter. ``SERIAL`` counts for every device, ``vid:pid:SERIAL`` for one
  product, ``vid:*:SERIAL`` for one vendor. Your list replaces the default. With ``+`` before each entry, it is added
  to the default: ``+SN-1,+10c4:ea60:0002``.
""",
    ),
    cfg.BoolOpt(
        "report_serial_trait",
        default=False,
        mutable=True,
        help="""
Report each device's serial number as a trait, ``CUSTOM_USB_SERIAL_…``, so that a flavor can ask for one device.

Every user of Placement can see traits, and the agent never deletes a trait from the cloud.

Possible values:

* ``true`` or ``false``.
""",
    ),
]
