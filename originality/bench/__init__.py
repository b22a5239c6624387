"""Benchmarks: what preset ``fast`` costs, and whether its verdicts agree with ``paper``'s.

It is measured complete and without each of its parts.

``variants`` judges held-out images under each variant, ``agreement`` compares their verdicts, ``work_done``
counts their work, ``summary`` puts all of it side by side and ``report`` writes it. ``learning`` and
``samplers`` compare ways of learning and of redrawing pseudo-words; ``timing`` measures times.
"""
