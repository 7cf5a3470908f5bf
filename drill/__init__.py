"""The drill: the whole city under load while a seeded schedule breaks it, and a checker that proves the promises from outside.

Nothing here knows the product but by its doors and its documents; see docs/promises.md.
"""
