"""Virtual patients: multi-phase contrast-enhanced liver MRI from tracer kinetics and MR physics, in memory.

Physics: ``kinetics``, ``signal``, ``agents``, ``circulation``, ``priors``, ``tissues``, ``enhancement``; held
against measurements by ``evidence`` and ``fitting``.  Geometry: ``shapes``, ``canvas``, ``anatomy``,
``mimics``, ``placement``, ``lesions``, ``disease``.  The scan: ``timing``, ``motion``, ``fields``,
``artefacts``, ``scanner``, ``acquisition``.  ``patient`` puts them together, ``truth`` says what is known,
``readers`` draws as a second reader would.
"""
