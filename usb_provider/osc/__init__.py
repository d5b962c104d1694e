"""The OpenStackClient plugin: ``openstack usb …``, for operators of a cloud and with their own credentials.

    plugin.py                                  what openstackclient looks for
    device.py, host.py, flavor.py, audit.py    the commands: they ask the services and print
    model/                                     what the commands decide; pure
    base.py                                    what all commands share: errors as one sentence, exit codes, arguments
    cloud.py                                   the services of the caller's cloud, and what a consumer is
    fleet.py                                   the devices of all hosts, read with few requests
    placement.py, nova.py, glance.py           the clients of these services; service.py is what the last two share

Nothing of the agent is imported here, and the agent imports nothing of this.
"""
