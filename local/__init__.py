"""The whole city on one machine: emulated cloud, gateway, pumps, demo.

Nothing in here runs in Lambda. What stands in for AWS, and where it differs from it, is told in
docs/local-city.md.
"""
