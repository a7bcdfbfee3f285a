"""What ``predict`` is made of: studies in (sources), files out (formats), and the record of both (audit)."""
