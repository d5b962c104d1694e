"""The client of Keystone for the openstack commands: the unified limits of a project. Decides nothing.

Keystone shows the limits of a project to a user of that project or of the system only, and others an empty list.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, TypedDict

from usb_provider.openstack.transport import Service
from usb_provider.osc.model.server import UnifiedLimits
from usb_provider.osc.service import ServiceClient

_NOVAS = "class:"
"""How Nova names the limit of a resource class."""


class Keystone(ServiceClient):
    """Keystone as the caller reaches it; errors as of :class:`ServiceClient`."""

    service: ClassVar[Service] = Service(
        "Keystone", "identity", role="a role in its project, or a policy that allows it", version="3"
    )

    def limits(self, project_id: str, resource_class: str, region: str | None) -> UnifiedLimits:
        """What the project may have of the class; two requests.

        Limits of another region than *region* do not count; where that is None, those of all regions do.
        """
        name = f"{_NOVAS}{resource_class}"
        own = self._get("/limits", _limits, {"resource_name": name, "project_id": project_id})
        registered = self._get("/registered_limits", _registered, {"resource_name": name})
        return UnifiedLimits(_first(own, region), _first(registered, region))


class _LimitJson(TypedDict):
    region_id: str | None
    resource_limit: int


class _RegisteredJson(TypedDict):
    region_id: str | None
    default_limit: int


def _first(limits: Sequence[tuple[str | None, int]], region: str | None) -> int | None:
    return next((each for where, each in limits if region is None or where in (None, region)), None)


def _limits(body: Mapping[str, list[_LimitJson]]) -> list[tuple[str | None, int]]:
    return [(entry["region_id"], int(entry["resource_limit"])) for entry in body["limits"]]


def _registered(body: Mapping[str, list[_RegisteredJson]]) -> list[tuple[str | None, int]]:
    return [(entry["region_id"], int(entry["default_limit"])) for entry in body["registered_limits"]]
