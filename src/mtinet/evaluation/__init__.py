"""Scores, statistics, baselines and findings, from plain arrays and tables: knows no network."""
