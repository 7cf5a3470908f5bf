"""The forwarder: from a hospital's PACS to the city's archive, and nothing lost on the way."""

__version__ = "0.1.0"
