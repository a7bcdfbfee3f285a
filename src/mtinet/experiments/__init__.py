"""Grids of runs: experiments as data, the identity of a run, and what executes, keeps and gathers runs."""
