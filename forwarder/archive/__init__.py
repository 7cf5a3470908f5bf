"""The city's archive as the forwarder sees it: its client, the signature, the link's state, what to do after a failure."""
