"""Pages and figures, from run folders, tables and results; never from networks."""
