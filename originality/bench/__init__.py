"""What ``fast`` costs and whether it says the same, beside ``paper`` and without each of its parts.

``runs`` judges held-out images under each variant, ``agreement`` compares their verdicts, ``spent`` counts
what they cost, ``summary`` puts all that side by side and ``report`` writes it down; ``words`` and
``sampling`` compare ways of learning and of drawing words; ``steps``, ``paired`` and ``profile`` take times.
"""
