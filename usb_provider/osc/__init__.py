"""The OpenStackClient plugin: ``openstack usb …``, for operators of a cloud and with their own credentials.

    plugin.py   what openstackclient looks for
    cloud.py    the services that a command asks, as this caller reaches them
    nova.py     the calls of Nova and Glance that the commands need
    base.py     what all commands share: errors as one sentence, exit codes, arguments
    device.py, host.py, flavor.py, audit.py    the commands, thin: what they say is decided in model/

Nothing of the agent is imported here, and the agent imports nothing of this.
"""
