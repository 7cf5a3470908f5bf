"""The function that decodes pixels: the only one that does, and it can do nothing else.

It has its own package, its own role (it reads `instances/*` and writes `cache/rendered/*`) and knows nothing of who asks: no
institution, no patient, no table. What a hostile image does to it ends here.
"""
