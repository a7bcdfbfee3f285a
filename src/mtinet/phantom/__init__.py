"""Virtual patients: multi-phase contrast-enhanced liver MRI from tracer kinetics and MR physics, in memory.

``kinetics`` and ``signal`` are the physics, ``tissues`` and ``circulation`` a patient's numbers, ``shapes``,
``anatomy`` and ``lesions`` the geometry, ``acquisition`` the scanner; ``patient`` puts them together.
"""
