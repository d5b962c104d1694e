"""Sphinx makes usb-provider.conf(5) of the page beside this file; tools/generate.py runs it."""

project = "usb-provider"
extensions = ["oslo_config.sphinxext"]
root_doc = "usb-provider.conf"
man_pages = [(root_doc, root_doc, "configuration of usb-provider", [], 5)]
today = " "  # otherwise each run would write another page
