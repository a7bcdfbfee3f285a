"""From files as they are to a cohort: one module a format."""
