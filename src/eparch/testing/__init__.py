"""Contract suites and fakes, for Eparch and for third parties."""
