"""Real Prometheus servers, real targets and a real promring on loopback: for ``promring demo``, tests and bench."""
