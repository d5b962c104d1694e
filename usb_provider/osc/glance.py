"""The client of Glance for the openstack commands: one call. Decides nothing."""

from collections.abc import Mapping
from typing import ClassVar

from usb_provider.exception import UnknownArgument
from usb_provider.openstack.transport import Service
from usb_provider.osc.service import ServiceClient

_ImageJson = Mapping[str, object]


class Glance(ServiceClient):
    """Glance as the caller reaches it; errors as of :class:`ServiceClient`."""

    service: ClassVar[Service] = Service(
        "Glance", "image", role="the role admin, or a policy that allows it", version="2"
    )

    def image(self, name_or_id: str) -> dict[str, str]:
        """The image's properties. :raises UnknownArgument: when there is none, or several; name another."""
        found = self._find("/images", name_or_id, _image)
        if found is None:
            found = self._get("/images", _images, {"name": name_or_id})
        if not found or len(found) > 1:
            number = "several images" if found else "no image"
            raise UnknownArgument(f'Glance has {number} {name_or_id}; "openstack image list" shows their ids.')
        return found[0]


def _image(body: _ImageJson) -> list[dict[str, str]]:
    return [{name: value for name, value in body.items() if isinstance(value, str)}]


def _images(body: Mapping[str, list[_ImageJson]]) -> list[dict[str, str]]:
    return [each for entry in body["images"] for each in _image(entry)]
