"""The door to Keystone: sessions, adapters and one request at a time; the only importer of keystoneauth1."""
